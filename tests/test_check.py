"""`forkless check`: what it finds in files, what it makes of bad ones, and how it says so.

What each rule finds is told line by line in `crates/forkless-check/tests/corpus`.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
from pathlib import Path
from typing import Any

import forkless
import forkless._gallery._traps as traps
import pytest
from forkless import _forkless
from support import Outcome, run_program

COMMAND = "import runpy; runpy.run_module('forkless', run_name='__main__')"
ROOT = Path(__file__).parents[1]
GALLERY = ROOT / "python/forkless/_gallery/programs"

TRAP = """\
import multiprocessing as mp

with mp.get_context("spawn").Pool(2) as pool:
    print(pool.map(abs, [1]))
"""
FINE = "print('fine')\n"


def check(*arguments: str | Path, stdin: str = "") -> Outcome:
    """Runs the command."""
    outcome = run_program(COMMAND, "check", *map(str, arguments), how="command", stdin=stdin)
    assert "Traceback" not in outcome.stderr, f"{outcome}"
    return outcome


def document(outcome: Outcome) -> dict[str, Any]:
    """The JSON that a run has printed."""
    found: dict[str, Any] = json.loads(outcome.stdout)
    return found


def codes(outcome: Outcome) -> list[str]:
    """The codes of a JSON report."""
    return [finding["code"] for finding in document(outcome)["findings"]]


def write(folder: Path, **files: str) -> Path:
    """Makes Python files by these names."""
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return folder


@pytest.mark.parametrize("trap", traps.TRAPS, ids=lambda trap: trap.slug)
def test_the_traps_of_the_gallery_are_found_and_not_in_their_forkless_halves(trap: traps.Trap) -> None:
    for case in trap.cases:
        standard, forkless = (GALLERY / trap.file(half, case) for half in ("standard", "with_forkless"))
        # A program from standard input has its trap in that it has no file.
        given = {"stdin": standard.read_text()} if case.on_stdin else {}
        outcome = check("-" if given else standard, "--format", "json", **given)
        hazards = {finding["hazard"] for finding in document(outcome)["findings"]}
        assert (outcome.exit_code, hazards) == (1, {trap.slug}), f"{standard}: {outcome}"
        outcome = check(forkless, "--select", "ALL", "--format", "json")
        assert (outcome.exit_code, document(outcome)["findings"]) == (0, [])


def test_text_shows_the_line_with_a_marker_and_what_to_do(tmp_path: Path) -> None:
    outcome = check(write(tmp_path, trap=TRAP) / "trap.py")
    lines = outcome.stdout.splitlines()
    assert outcome.exit_code == 1
    assert lines[0].startswith(f"{tmp_path}/trap.py:3:6: FL010 main-reexecution: ")
    assert lines[2:4] == [
        '3 | with mp.get_context("spawn").Pool(2) as pool:',
        "  |      ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^",
    ]
    assert "instead: start it under" in lines[4]
    assert "--explain FL010" in lines[5]
    assert lines[-1] == "1 finding in 1 file."


def test_json_is_the_documented_object(tmp_path: Path) -> None:
    outcome = check(write(tmp_path, trap=TRAP, fine=FINE), "--format", "json")
    (finding,) = document(outcome)["findings"]
    assert document(outcome)["files"] == 2
    assert all(finding.pop(key) for key in ("message", "help"))
    assert finding == {
        "code": "FL010",
        "hazard": "main-reexecution",
        "path": f"{tmp_path}/trap.py",
        "line": 3,
        "column": 6,
    }


def test_sarif_names_rules_and_places(tmp_path: Path) -> None:
    outcome = check(write(tmp_path, trap=TRAP), "--format", "sarif")
    log = document(outcome)
    (run,) = log["runs"]
    (result,) = run["results"]
    rules = run["tool"]["driver"]["rules"]
    assert (log["version"], rules[result["ruleIndex"]]["id"], result["ruleId"]) == ("2.1.0", "FL010", "FL010")
    place = result["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == f"file://{tmp_path}/trap.py"
    assert (place["region"]["startLine"], place["region"]["startColumn"]) == (3, 6)
    assert len(rules) == len(_forkless.check_list().splitlines())


def test_github_gets_one_command_a_line(tmp_path: Path) -> None:
    outcome = check(write(tmp_path, trap=TRAP), "--format", "github")
    (line,) = outcome.stdout.splitlines()
    place = f"file={tmp_path}/trap.py,line=3,col=6,endColumn=37"
    assert line.startswith(f"::error {place},title=FL010 main-reexecution::")


def test_comments_silence_a_line(tmp_path: Path) -> None:
    silencing = {"ignore": 0, "ignore[FL010]": 0, "ignore[fl001, FL010] why": 0, "ignore[FL001]": 1}
    for comment, code in silencing.items():
        text = TRAP.replace("as pool:", f"as pool:  # forkless: {comment}")
        assert check(write(tmp_path, trap=text)).exit_code == code, comment


def test_rules_are_selected_and_ignored(tmp_path: Path) -> None:
    text = TRAP.replace("Pool(2)", "Pool(mp.cpu_count())")
    found = {
        (): ["FL010"],
        ("--select", "ALL"): ["FL010", "FL900"],
        ("--select", "FL9,context-mismatch"): ["FL900"],
        ("--select", "ALL", "--ignore", "main-reexecution"): ["FL900"],
        ("--ignore", "FL0"): [],
    }
    write(tmp_path, trap=text)
    for options, expected in found.items():
        outcome = check(tmp_path, "--format", "json", *options)
        assert codes(outcome) == expected, options
        # Advice never fails a run.
        assert outcome.exit_code == int("FL010" in expected)


def test_pyproject_sets_what_the_command_line_leaves_open(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[tool.forkless.check]\nignore = ["FL010"]\nexclude = ["old"]\ntarget-version = "3.14"\n'
    )
    (tmp_path / "old").mkdir()
    write(tmp_path / "old", trap=TRAP)
    write(
        tmp_path,
        trap=TRAP,
        default="import multiprocessing\nmultiprocessing.Process(target=lambda: 1).start()\n",
    )
    outcome = check(tmp_path, "--format", "json")
    # Only from 3.14 on is the target of a process of the default method looked up by its name.
    assert (codes(outcome), document(outcome)["files"]) == (["FL011"], 2)
    assert codes(check(tmp_path, "--format", "json", "--ignore", "FL011")) == ["FL010", "FL010"]
    assert codes(check(tmp_path, "--format", "json", "--target-version", "3.13")) == []


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    write(tmp_path, fine=FINE)
    for options, message in [
        (["--select", "FL777"], 'no rule is called "FL777"'),
        (["--target-version", "2.7"], "no version of Python 3"),
        (["--explain", "FL777"], "no rule is called 'FL777'"),
        (["-", "--fix"], "standard input"),
    ]:
        outcome = check(*options, *([] if "-" in options else [tmp_path]))
        assert (outcome.exit_code, outcome.stdout) == (2, ""), outcome
        assert message in outcome.stderr
    (tmp_path / "pyproject.toml").write_text("[tool.forkless.check]\nselects = []\n")
    outcome = check(tmp_path)
    assert outcome.exit_code == 2
    assert re.search("pyproject.toml: .*selects", outcome.stderr)


def test_what_git_ignores_and_what_is_no_python_is_left_out(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("build/\n")
    (tmp_path / "build").mkdir()
    write(tmp_path / "build", trap=TRAP)
    (tmp_path / "trap.txt").write_text(TRAP)
    outcome = check(tmp_path, "--format", "json")
    assert document(outcome)["files"] == 0
    # What is named is checked whatever it is called.
    assert (
        codes(check(tmp_path / "trap.txt", tmp_path / "build/trap.py", "--format", "json")) == ["FL010"] * 2
    )


def test_notebooks_are_read_cell_by_cell(tmp_path: Path) -> None:
    cells = [
        {"cell_type": "markdown", "source": ["# Title"]},
        {"cell_type": "code", "source": ["%matplotlib inline\n", "import multiprocessing as mp\n", "!ls"]},
        {"cell_type": "code", "source": "%%bash\nmp.Pool()"},
        {"cell_type": "code", "source": "def work(item):\n    return item"},
        {"cell_type": "code", "source": ["pool = mp.get_context('spawn').Pool(2)\n", "pool.map(work, [1])"]},
    ]
    path = tmp_path / "book.ipynb"
    path.write_text(json.dumps({"cells": cells, "metadata": {"language_info": {"name": "python"}}}))
    outcome = check(path, "--format", "json", "--ignore", "FL110")
    (finding,) = document(outcome)["findings"]
    assert (finding["code"], finding["cell"], finding["line"], finding["column"]) == ("FL011", 5, 2, 10)
    assert f"{path}:cell 5:2:10: FL011" in check(path).stdout


def test_bad_files_are_reported_and_do_not_end_the_run(tmp_path: Path) -> None:
    write(tmp_path, trap=TRAP, broken="import multiprocessing\ndef f(:\n" + TRAP)
    (tmp_path / "binary.py").write_bytes(b"\x7fELF\0\0\0")
    (tmp_path / "latin.py").write_bytes(b"# -*- coding: latin-1 -*-\nname = '\xe4'\n" + TRAP.encode())
    (tmp_path / "unsaid.py").write_bytes(b"name = '\xe4'\n" + TRAP.encode())
    (tmp_path / "wide.py").write_bytes(TRAP.encode("utf-16"))
    (tmp_path / "mark.py").write_bytes(b"\xef\xbb\xbf" + TRAP.encode())
    (tmp_path / "deep.py").write_text("x = " + "(" * 100_000)
    (tmp_path / "bad.ipynb").write_text("{")
    (tmp_path / "dangling.py").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to(".")
    os.mkfifo(tmp_path / "pipe.py")
    outcome = check(tmp_path, "--format", "json")
    found = {Path(finding["path"]).name for finding in document(outcome)["findings"]}
    assert (outcome.exit_code, found) == (1, {"broken.py", "latin.py", "mark.py", "trap.py", "unsaid.py"})
    problems = {Path(problem["path"]).name: problem["message"] for problem in document(outcome)["problems"]}
    for name, message in {
        "broken.py": "syntax error",
        "binary.py": "not text",
        "unsaid.py": "not UTF-8",
        "wide.py": "UTF-16",
        "deep.py": "nested too deeply",
        "bad.ipynb": "no notebook",
    }.items():
        assert message in problems[name], name
    assert f"{tmp_path}/broken.py:2: syntax error" in check(tmp_path).stderr


def test_what_is_named_and_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, trap=TRAP)
    os.mkfifo(tmp_path / "pipe")
    for name in ("missing.py", "pipe"):
        outcome = check(tmp_path / name, tmp_path / "trap.py")
        assert outcome.exit_code == 2
        assert name in outcome.stderr
        assert "FL010" in outcome.stdout


def test_a_file_that_may_not_be_read_is_reported(tmp_path: Path) -> None:
    path = write(tmp_path, secret=TRAP) / "secret.py"
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    outcome = check(tmp_path)
    assert outcome.exit_code == 0
    assert "secret.py: cannot be read" in outcome.stderr


def test_fix_imports_forkless_where_that_is_certain(tmp_path: Path) -> None:
    fork = TRAP.replace("spawn", "fork").replace("abs", "lambda item: item")
    write(tmp_path, trap=TRAP, fork=fork, fine="import multiprocessing\n")
    assert check(tmp_path).stdout.endswith("2 findings in 3 files.\n")
    outcome = check(tmp_path, "--fix")
    assert outcome.exit_code == 1
    assert outcome.stdout.endswith("1 finding in 3 files, 1 mended.\n")
    texts = {path.stem: path.read_text() for path in tmp_path.iterdir()}
    assert texts == {
        "trap": TRAP.replace("multiprocessing", "forkless"),
        "fork": fork,
        "fine": "import multiprocessing\n",
    }


def test_fix_imports_only_what_forkless_has(tmp_path: Path) -> None:
    names = sorted(multiprocessing.__all__)
    texts = {name: f"from multiprocessing import {name}\n{TRAP}" for name in names}
    check(write(tmp_path, **texts), "--fix")
    imported = [
        name for name in names if f"from forkless import {name}" in (tmp_path / f"{name}.py").read_text()
    ]
    assert len(imported) > 30
    assert [name for name in imported if not hasattr(forkless, name)] == []


def test_rules_are_explained_and_listed() -> None:
    listed = check("--list").stdout.splitlines()
    assert len(listed) == 31
    for line in listed:
        code, hazard = line.split()[:2]
        explanation = _forkless.check_explain(code)
        assert explanation is not None
        assert explanation.startswith(f"### {code} · {hazard}\n")
    assert check("--explain", "fl001").stdout == _forkless.check_explain("FL001")
    by_hazard = check("--explain", "queue-join").stdout
    assert re.findall(r"^### (\w+)", by_hazard, re.MULTILINE) == ["FL080", "FL081", "FL082"]


def test_the_documentation_has_the_explanations() -> None:
    text = (ROOT / "docs/check.md").read_text()
    assert text.split("## The rules\n\n")[1] == _forkless.check_reference(), (
        "docs/check.md is out of step: its last section is what `_forkless.check_reference()` returns"
    )


def test_the_examples_of_the_explanations_are_python() -> None:
    for example in re.findall(r"```python\n(.*?)```", _forkless.check_reference(), re.DOTALL):
        compile(example, "<example>", "exec")


def test_a_folder_of_its_own_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, trap=TRAP)
    shutil.copy(tmp_path / "trap.py", tmp_path / "twice.py")
    monkeypatch.chdir(tmp_path)
    assert check().stdout.endswith("2 findings in 2 files.\n")
