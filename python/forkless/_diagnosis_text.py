"""A diagnosis in words: what is wrong, who waits for whom, and the processes; and as a graph."""

from collections.abc import Iterator
from textwrap import wrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._diagnosis import Diagnosis, Finding

_WIDTH = 100
# Frames of a stack that are shown; all of them are in the JSON.
_FRAMES = 8


def text(diagnosis: "Diagnosis") -> str:
    """All of it, what matters most first."""
    parts = [_headline(diagnosis)]
    parts += (_finding(number, each) for number, each in enumerate(diagnosis.findings, 1))
    parts += ("\n".join(_wrapped("not known: ", each, 2)) for each in diagnosis.unknown)
    if chains := "\n".join(_chains(diagnosis)):
        parts.append(f"Who waits for whom\n{chains}")
    parts.append("Processes\n" + "\n".join(_processes(diagnosis)))
    return "\n\n".join(parts)


def _headline(diagnosis: "Diagnosis") -> str:
    count = len(diagnosis.processes)
    tree = f"process {diagnosis.root} ({count} process{'es' if count > 1 else ''})"
    match len(diagnosis.findings):
        case 0 if diagnosis.unknown:
            return f"Nothing wrong with {tree} as far as could be seen, which is not all."
        case 0:
            return f"Nothing wrong with {tree}."
        case 1:
            return f"One thing is wrong with {tree}."
        case number:
            return f"{number} things are wrong with {tree}."


def _finding(number: int, finding: "Finding") -> str:
    lines = _wrapped(f"{number}. ", f"{finding.hazard}: {finding.summary}", 0)
    for index, each in enumerate(finding.evidence):
        lines += _wrapped("seen:   " if index == 0 else "        ", each, 3)
    lines += _wrapped("advice: ", finding.advice, 3)
    return "\n".join(lines)


def _wrapped(label: str, words: str, indent: int) -> list[str]:
    first = " " * indent + label
    return wrap(
        words,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _waits(diagnosis: "Diagnosis") -> Iterator[tuple[int, int | None, dict[str, Any]]]:
    """(pid, thread if it is not the main one, what it waits for) of all that wait."""
    for process in diagnosis.processes:
        if process["waiting"] is not None:
            yield process["pid"], None, process["waiting"]
        for thread in process["threads"]:
            if thread["waiting"] is not None:
                yield process["pid"], thread["tid"], thread["waiting"]


def _chains(diagnosis: "Diagnosis") -> Iterator[str]:
    for pid, tid, waiting in _waits(diagnosis):
        who = f"{pid}" if tid is None else f"{pid} thread {tid}"
        owner = waiting["owner_pid"]
        if waiting["object"] is None and owner is not None:
            yield f"  {who} ──▶ end of {owner}"
        elif owner is not None:
            thread = waiting["owner_tid"]
            has = f"{owner}" if thread in (None, owner) else f"{owner} thread {thread}"
            yield f"  {who} ──▶ {waiting['object']} ──▶ {has} has it"


def _processes(diagnosis: "Diagnosis") -> Iterator[str]:
    depths: dict[int, int] = {}
    concerned = {pid for finding in diagnosis.findings for pid in finding.pids}
    for process in diagnosis.processes:
        depth = depths[process["pid"]] = depths.get(process["parent"], -1) + 1
        indent = "  " * (depth + 1)
        memory = process["unique_bytes"]
        size = "" if memory is None else f", {memory / 1e6:.1f} MB of its own"
        # The command lines of a tree's own processes are all alike.
        is_child = process["role"] not in (None, "main")
        title = f"{process['name']} ({process['role']})" if is_child else process["command"][:70]
        yield f"{indent}{process['pid']} {title}"
        end = "" if process["ended"] is None else f" ({process['ended']})"
        wait = _wait(process["waiting"]) if process["state"] in ("sleeping", "running") else ""
        yield f"{indent}    {process['state']}{end}{size}{wait}"
        frames = _FRAMES if process["pid"] in concerned else 1
        yield from _stack(process["stack"][:frames], indent)
        for thread in process["threads"]:
            if process["pid"] in concerned:
                yield f"{indent}    thread {thread['tid']}{_wait(thread['waiting'])}"
                yield from _stack(thread["stack"][:frames], indent)


def _stack(frames: list[dict[str, Any]], indent: str) -> Iterator[str]:
    for frame in frames:
        if frame["file"].endswith("multiprocessing/popen_fork.py") and frame["function"] == "_launch":
            return  # the rest was copied by the fork: that is what the parent did
        yield f"{indent}      {frame['file']}:{frame['line']} in {frame['function']}"


def _wait(waiting: dict[str, Any] | None) -> str:
    if waiting is None:
        return ""
    since = "" if waiting["since_s"] is None else f" for {waiting['since_s']:.1f} s"
    what = f"{waiting['kind']}: {waiting['object']}" if waiting["object"] else waiting["kind"]
    pending = "" if waiting["pending"] is None else f", now {waiting['pending']}"
    return f", waits{since} for {what}{pending}" + (", with a limit" if waiting["timed"] else "")


def graph(diagnosis: "Diagnosis") -> str:
    """The processes as boxes, those that something is wrong with in red; an arrow for each wait."""
    concerned = {pid for finding in diagnosis.findings for pid in finding.pids}
    lines = ["digraph processes {", "  node [shape=box];"]
    for process in diagnosis.processes:
        colour = ", color=red" if process["pid"] in concerned else ""
        label = _quoted(f"{process['pid']} {process['state']}\n{process['command'][:40]}")
        lines.append(f"  {process['pid']} [label={label}{colour}];")
        if process["pid"] != diagnosis.root:
            lines.append(f"  {process['parent']} -> {process['pid']} [style=dotted, arrowhead=none];")
    for pid, _, waiting in _waits(diagnosis):
        if waiting["owner_pid"] is not None:
            what = _quoted(waiting["object"] or "its end")
            lines.append(f"  {pid} -> {waiting['owner_pid']} [label={what}];")
        elif waiting["object"] is not None and pid in concerned:
            lines.append(f"  {pid} -> {_quoted(waiting['object'])};")
    return "\n".join([*lines, "}"])


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
