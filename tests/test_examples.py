"""The examples do what they say."""

from __future__ import annotations

import re
from pathlib import Path

from support import run_program

CENSUS = (Path(__file__).parents[1] / "examples" / "stdlib_census.py").read_text()


def test_three_ways_to_count_agree() -> None:
    outcome = run_program(CENSUS, "--limit", "60", "--workers", "2", timeout=50)
    text = outcome.check()
    assert text.startswith("60 files of the standard library")
    assert "all three answers are the same" in text
    assert re.search(r"^most used names: self \(\d", text, re.M)
    assert re.search(r"^slowest file: .+\.py \(\d+\.\d\d s\)$", text, re.M)
    for way in ("this process alone", r"Pool\(2\)\.imap_unordered", r"Executor\(2\)\.submit and \.map"):
        assert re.search(rf"^  {way} +\d+\.\d s$", text, re.M)
    # The progress bar, where there is no terminal.
    assert re.fullmatch(r"parse: 60 of 60 in 0:\d\d\n", outcome.stderr)


def test_a_wrong_answer_is_noticed() -> None:
    wrong = CENSUS.replace("map(parse, paths[1::2]", "map(parse, paths[3::2]")
    assert wrong != CENSUS
    outcome = run_program(wrong, "--limit", "20", "--workers", "2", timeout=50)
    assert outcome.exit_code == 1
    assert "different from the first answer: Executor(2).submit and .map" in outcome.stdout


def test_no_guard_anywhere() -> None:
    for path in (Path(__file__).parents[1] / "examples").glob("**/*.py"):
        assert "__name__" not in path.read_text(), path


def test_a_command_line_that_makes_no_sense() -> None:
    for arguments in (["--limit", "0"], ["--workers", "-1"]):
        outcome = run_program(CENSUS, *arguments)
        assert outcome.exit_code == 2
        assert "must be at least 1" in outcome.stderr
