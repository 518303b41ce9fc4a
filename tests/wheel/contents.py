"""What is in a wheel or a source distribution: all that belongs there, and nothing else.

`python contents.py FILE` ends with 0, and says the size, or with 1 and what is wrong. `./dev wheels` runs it.
"""

from __future__ import annotations

import re
import sys
import tarfile
import zipfile
from email.parser import HeaderParser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "python" / "forkless"
MOST_BYTES = 8_000_000  # of a wheel; one has 3 MB
# Where things are on the machine that has built it is nobody's business, and no two builds would be alike.
PLACES = [str(ROOT).encode(), str(Path.home()).encode() + b"/"]
GLIBC = re.compile(r"-manylinux_2_(\d+)_\w+\.whl$")
NEWEST_GLIBC = 34  # 2.34, of August 2021: Debian 12, Ubuntu 22.04, RHEL 9
METADATA = {
    "Name": "forkless",
    "Requires-Python": ">=3.10, <3.14",
    "License-Expression": "MIT OR Apache-2.0",
    "Description-Content-Type": "text/markdown; charset=UTF-8; variant=GFM",
}


def wrong_with(path: Path) -> list[str]:
    """What is wrong with a distribution, a line each."""
    return wrong_with_wheel(path) if path.suffix == ".whl" else wrong_with_source(path)


def wrong_with_wheel(path: Path) -> list[str]:
    """The same of a wheel."""
    with zipfile.ZipFile(path) as wheel:
        contents = {name: wheel.read(name) for name in wheel.namelist()}
        dates = {member.date_time for member in wheel.infolist()}
    _, version, tag, *_ = path.name.split("-")
    info = f"forkless-{version}.dist-info"
    sources = {f"forkless/{each.relative_to(PACKAGE)}" for each in files_of_the_package()}
    expected = {
        *sources,
        f"forkless/_forkless.cpython-{tag.removeprefix('cp')}-x86_64-linux-gnu.so",
        *(f"{info}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt")),
        *(f"{info}/licenses/{name}" for name in ("LICENSE-APACHE", "LICENSE-MIT")),
    }
    wrong = differences(set(contents), expected)
    wrong += [
        f"{name} names {place!r}" for name, text in contents.items() for place in PLACES if place in text
    ]
    wrong += wrong_with_metadata(contents.get(f"{info}/METADATA", b"").decode())
    if len(dates) != 1:
        wrong.append(f"its files are of several times: {sorted(dates)[:3]}")
    glibc = GLIBC.search(path.name)
    if glibc is None or int(glibc[1]) > NEWEST_GLIBC:
        wrong.append(f"it needs glibc newer than 2.{NEWEST_GLIBC}, or is not for Linux at large")
    if path.stat().st_size > MOST_BYTES:
        wrong.append(f"it has {path.stat().st_size} bytes, more than {MOST_BYTES}")
    return wrong


def wrong_with_metadata(text: str) -> list[str]:
    """What is wrong with the metadata of a wheel."""
    metadata = HeaderParser().parsestr(text)
    wrong = [f"{key}: {metadata[key]}" for key, value in METADATA.items() if metadata[key] != value]
    required = [each for each in metadata.get_all("Requires-Dist", []) if "extra ==" not in each]
    if required != ["cloudpickle>=3.1,<4"]:
        wrong.append(f"it requires {required}")
    if str(metadata.get_payload()).strip() != (ROOT / "README.md").read_text().strip():
        wrong.append("its description is not README.md")
    return wrong


def wrong_with_source(path: Path) -> list[str]:
    """What is wrong with a source distribution."""
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames() if not name.endswith("/")}
    needed = {
        "Cargo.toml",
        "Cargo.lock",
        "pyproject.toml",
        "README.md",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "PKG-INFO",
    }
    needed |= {f"python/forkless/{each.relative_to(PACKAGE)}" for each in files_of_the_package()}
    stray = [name for name in names if name.endswith((".so", ".pyc", ".whl")) or "target/" in name]
    return [f"{name} is missing" for name in sorted(needed - names)] + [f"{name} is stray" for name in stray]


def files_of_the_package() -> list[Path]:
    """Those that the wheel has from the source tree."""
    built = (".so", ".pyc")
    return [each for each in PACKAGE.rglob("*") if each.is_file() and each.suffix not in built]


def differences(found: set[str], expected: set[str]) -> list[str]:
    """What is missing and what is stray."""
    missing = [f"{name} is missing" for name in sorted(expected - found)]
    return missing + [f"{name} is stray" for name in sorted(found - expected)]


if __name__ == "__main__":
    problems = wrong_with(Path(sys.argv[1]))
    print("\n".join(problems) or f"{Path(sys.argv[1]).stat().st_size} bytes")
    sys.exit(bool(problems))
