"""./dev: what can be checked without setting anything up."""

from __future__ import annotations

import ast
import importlib.machinery
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from support import Program

ROOT = Path(__file__).resolve().parent.parent


def load(path: Path) -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("dev", str(path))
    spec = importlib.util.spec_from_loader("dev", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.fixture
def dev(tmp_path: Path) -> ModuleType:
    """The script in a checkout of its own that has nothing else in it."""
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    shutil.copy(ROOT / "dev", checkout)
    (checkout / "requirements-dev.txt").write_text("")
    return load(checkout / "dev")


def call(dev: ModuleType, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if k != "FORKLESS_PYTHON"}
    return subprocess.run(
        [sys.executable, str(dev.ROOT / "dev"), *arguments],
        env={**inherited, **environ},
        capture_output=True,
        text=True,
    )


def one_line(result: subprocess.CompletedProcess[str]) -> str:
    assert (result.returncode, result.stdout) == (1, ""), result
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr


def test_help_names_every_verb(dev: ModuleType) -> None:
    for arguments in [], ["help"], ["--help"]:
        shown = call(dev, *arguments)
        assert shown.returncode == 0
        assert set(re.findall(r"^\./dev (\w+)", shown.stdout, re.MULTILINE)) == {*dev.VERBS, "help"}


def test_an_unknown_verb_is_one_line(dev: ModuleType) -> None:
    assert "no verb 'tset'" in one_line(call(dev, "tset"))


def test_an_unknown_python_is_one_line(dev: ModuleType) -> None:
    assert "no-such-python" in one_line(call(dev, "build", "--python", "no-such-python"))
    assert "no-such-python" in one_line(call(dev, "build", FORKLESS_PYTHON="no-such-python"))
    assert "needs a version" in one_line(call(dev, "build", "--python"))


def test_an_old_python_gets_as_far_as_the_message(dev: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    ast.parse((ROOT / "dev").read_text(), feature_version=(3, 8))
    monkeypatch.setattr(dev.platform, "python_version", lambda: "3.9.2")
    with pytest.raises(dev.Failed, match=r"Python 3\.9\.2 is not supported"):
        dev.choose(None)


def test_what_is_missing_is_said_at_once(dev: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "ensurepip.py").write_text("raise ImportError('as on Debian')")
    result = call(dev, "build", PATH="", HOME=str(tmp_path), PYTHONPATH=str(tmp_path))
    assert (result.returncode, result.stdout) == (1, "")
    lines = result.stderr.splitlines()
    assert [line.startswith("./dev: ") for line in lines] == [True] * 3, result.stderr
    for line, words in zip(
        lines, (["cargo", "rustup"], ["cc", "gcc"], ["venv", "python3-venv"]), strict=True
    ):
        assert all(word in line for word in words), line
    assert not (dev.ROOT / ".venv").exists()


def test_an_old_cargo_is_named(dev: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cargo = tmp_path / "cargo"
    cargo.write_text("#!/bin/sh\necho cargo 1.63.0\n")
    cargo.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert dev.lacking_compilers() == [
        "cargo 1.63.0 is not enough: install Rust 1.95 or newer (https://rustup.rs)"
    ]


def test_rust_version_is_that_of_the_workspace(dev: ModuleType) -> None:
    manifest = (ROOT / "Cargo.toml").read_text()
    assert f'rust-version = "{dev.RUST[0]}.{dev.RUST[1]}"' in manifest


def test_interpreters_are_probed(dev: ModuleType, tmp_path: Path) -> None:
    shim = tmp_path / "python3.12"
    shim.write_text("#!/bin/sh\necho 'not active here' >&2\nexit 127\n")
    shim.chmod(0o755)
    assert dev.probe(str(shim)) is None
    assert dev.probe(str(tmp_path / "nothing")) is None
    assert dev.probe(sys.executable) == ".".join(map(str, sys.version_info[:3]))


def test_another_python_has_another_environment(dev: ModuleType) -> None:
    version = ".".join(map(str, sys.version_info[:2]))
    assert dev.choose(None).venv == dev.ROOT / ".venv"
    assert dev.choose(version).venv == dev.ROOT / f".venv-{version}"
    assert dev.choose(sys.executable).venv == dev.ROOT / f".venv-{version}"


def test_the_digest_sees_contents_and_names(dev: ModuleType) -> None:
    crates = dev.ROOT / "crates"
    (crates / "a").mkdir(parents=True)
    source = crates / "a" / "lib.rs"
    source.write_text("one")
    digests = [dev.digest("debug", crates)]
    os.utime(source, (0, 0))
    assert dev.digest("debug", crates) == digests[0], "a new time alone is no change"
    source.write_text("two")
    digests.append(dev.digest("debug", crates))
    source.rename(crates / "a" / "main.rs")
    digests.append(dev.digest("debug", crates))
    (crates / "b.rs").write_text("")
    digests += [dev.digest("debug", crates), dev.digest("release", crates), dev.digest(crates)]
    assert len(set(digests)) == len(digests)


def test_a_step_is_quiet_unless_it_fails(dev: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert dev.step("works", ["sh", "-c", "echo noise; echo noise >&2"])
    assert re.fullmatch(r"works +\d+\.\d s\n", capsys.readouterr().out)
    assert not dev.step("breaks", ["sh", "-c", "echo reason >&2; exit 3"])
    shown = capsys.readouterr().out
    assert "failed" in shown
    assert "reason" in shown
    assert "exit code 3" in shown


def test_output_is_shown_and_kept(dev: ModuleType, capfd: pytest.CaptureFixture[str]) -> None:
    code, output = dev.tee(["sh", "-c", "echo one; echo two >&2; exit 4"], dict(os.environ))
    assert (code, output) == (4, "one\ntwo\n")
    assert capfd.readouterr().out == output


def test_rust_tests_are_counted(dev: ModuleType) -> None:
    output = (
        "running 2 tests\ntest result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out\n"
        "test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out\n"
    )
    assert dev.rust_summary(output) == "5 passed, 1 failed, 1 ignored in 2 programs"
    assert dev.rust_summary("error: could not compile") == "0 passed, 0 failed, 0 ignored in 0 programs"


def test_ctrl_c_waits_for_the_command_and_shows_no_traceback(dev: ModuleType) -> None:
    source = f"""
import runpy, sys
dev = runpy.run_path({str(dev.ROOT / "dev")!r}, run_name="dev")
child = "trap 'echo cleaned up; exit 1' INT; echo ready; while :; do sleep 0.05; done"
dev["VERBS"]["demo"] = lambda python, arguments: dev["run"](["sh", "-c", child])
sys.exit(dev["main"](["demo"]))
"""
    with Program(source) as program:
        program.wait_for("ready")
        program.interrupt()
        outcome = program.finish()
    assert (outcome.exit_code, outcome.survivors) == (130, ())
    assert outcome.stdout == "ready\ncleaned up\n"
    assert outcome.stderr == "\n./dev: interrupted\n"


LOCKS = [
    "requirements-dev",
    "requirements-integrations",
    "requirements-torch",
    "benches/requirements",
    "docs/requirements",
]


@pytest.mark.parametrize("name", LOCKS)
def test_the_lock_names_no_host_and_hashes_everything(name: str) -> None:
    text = (ROOT / f"{name}.txt").read_text()
    assert "://" not in text
    assert "/" not in text
    entries = text.replace("\\\n", "").splitlines()
    assert all(re.match(r"[a-z0-9-]+==\S+ .*--hash=sha256:", entry) for entry in entries), entries
    locked = {entry.partition("==")[0] for entry in entries}
    wanted = re.findall(r"^([a-z][a-z-]*)", (ROOT / f"{name}.in").read_text(), re.MULTILINE)
    assert set(wanted) <= locked


def test_maturin_is_the_same_everywhere() -> None:
    pins = {
        match[1]
        for name in ("pyproject.toml", "requirements-dev.in", "requirements-dev.txt")
        for match in re.finditer(r"maturin==([\d.]+)", (ROOT / name).read_text())
    }
    assert len(pins) == 1
