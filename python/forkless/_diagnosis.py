"""`forkless.doctor.report`: a diagnosis of a process tree, as an object, as text, as JSON, as a drawing."""

import os
from dataclasses import dataclass
from typing import Any

__all__ = ["Diagnosis", "Finding", "report"]

_PIDS = 1 << 31


@dataclass(frozen=True)
class Finding:
    """Something that is wrong.

    Attributes:
        hazard: Which hazard it is, by its name in the gallery: "dead-owner", "lock-cycle", ...
        pids: The processes that it is about.
        summary: What is wrong, in a sentence.
        evidence: What that is concluded from, one observation each.
        advice: What to do about it.
    """

    hazard: str
    pids: tuple[int, ...]
    summary: str
    evidence: tuple[str, ...]
    advice: str


@dataclass(frozen=True)
class Diagnosis:
    """What the processes of a tree wait for, and what is wrong with that. As a string, all of it in words.

    Attributes:
        root: The id of the process asked about.
        processes: It and all that descend from it, parents first, as docs/doctor.md describes them.
        findings: What is wrong, causes first; empty if nothing is.
        unknown: What could not be learned, in sentences.
    """

    root: int
    processes: tuple[dict[str, Any], ...]
    findings: tuple[Finding, ...]
    unknown: tuple[str, ...]

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong, as far as could be seen."""
        return not self.findings

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, as the command prints it.

        Returns:
            Numbers, strings, lists and dictionaries: "root", "processes", "findings", "unknown".
        """
        from dataclasses import asdict

        return asdict(self)

    def to_json(self, *, indent: int | None = None) -> str:
        """The same as a JSON document.

        Args:
            indent: Spaces for each level; None for all in one line.
        """
        import json

        return json.dumps(self.to_dict(), indent=indent)

    def to_dot(self) -> str:
        """Who waits for whom, as a graph in the language of Graphviz."""
        from . import _diagnosis_text

        return _diagnosis_text.graph(self)

    def __str__(self) -> str:
        from . import _diagnosis_text

        return _diagnosis_text.text(self)


def report(pid: int | None = None) -> Diagnosis:
    """Looks at a tree of processes, of forkless or of the standard library, and says what is wrong with it.

    Nothing is stopped, changed or asked: what is to be known is read from `/proc`, from the shared memory of
    forkless, and from the memory of the interpreters (the right to trace them is needed for that). If
    something seems wrong, it looks again a tenth of a second later, so that what passes by itself is not
    reported.

    Args:
        pid: The process at the root. None for this one.

    Returns:
        What was found.

    Raises:
        ProcessLookupError: There is no such process, or it has ended.
        PermissionError: It belongs to another user, or may not be traced.

    Example:
        >>> diagnosis = forkless.doctor.report(4711)
        >>> if not diagnosis.healthy:
        ...     print(diagnosis)
    """
    return look(os.getpid() if pid is None else pid)


def look(pid: int, *, leave_out: int | None = None) -> Diagnosis:
    """As `report`, without one process: who looks from a terminal is not part of the tree.

    Raises:
        ProcessLookupError: As there.
        PermissionError: As there.
    """
    from . import _forkless

    if not 0 < pid < _PIDS:
        raise ProcessLookupError(f"there is no process {pid}")
    found = _forkless.diagnose(pid, leave_out)
    return Diagnosis(
        found["root"],
        tuple(found["processes"]),
        tuple(_finding(**each) for each in found["findings"]),
        tuple(found["unknown"]),
    )


def _finding(hazard: str, pids: list[int], summary: str, evidence: list[str], advice: str) -> Finding:
    return Finding(hazard, tuple(pids), summary, tuple(evidence), advice)
