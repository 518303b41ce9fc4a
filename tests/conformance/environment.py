"""A throwaway environment for Python: each interpreter in it is installed at its start, and says so.

Tests start programs of their own, with `-I` or `-E`, so variables do not reach them. A `.pth` file does.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent


def make(folder: Path, *, standard: bool) -> str:
    """Makes an environment that finds what this one has.

    Args:
        folder: Where; it must not be there.
        standard: Whether it is to be one of the standard library, without forkless.

    Returns:
        The path of its interpreter.
    """
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = folder / "lib" / version / "site-packages"
    packages.mkdir(parents=True)
    (folder / "bin").mkdir()
    executable = folder / "bin" / "python"
    executable.symlink_to(os.path.realpath(sys.executable))
    home = os.path.dirname(os.path.realpath(sys.executable))
    (folder / "pyvenv.cfg").write_text(f"home = {home}\ninclude-system-site-packages = false\n")
    lines = [
        f"import site; site.addsitedir({sysconfig.get_paths()['purelib']!r})",
        str(TESTS),
        "import conformance.guard" if not standard else "",
    ]
    (packages / "conformance.pth").write_text("\n".join(lines) + "\n")
    return str(executable)
