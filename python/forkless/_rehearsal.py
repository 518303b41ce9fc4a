"""Jobs done for practice, so that real ones take less time.

A forked process pays for each page that it is the first to write to (3 µs, and Python writes wherever it
looks: reference counts), and for whatever the interpreter has not done before. A template that has done a job
a few times has its code specialised; a standby that has done one has made those pages its own before it is
needed. Measured with 3.11: half a millisecond less from `start` to the end of a function of `__main__`.
"""

import pickle
from importlib.machinery import PathFinder
from typing import Any

from . import _last_words, process

# The interpreter specialises code that has run this often (3.11 to 3.13: at most 16 times).
_ENOUGH = 16

_script: bytes | None = None


def write() -> None:
    """In a template: makes up a job, and does it until the interpreter knows it by heart."""
    global _script
    # Of no module, so that it travels by value and leaves no trace when it is dropped.
    variables: dict[str, Any] = {"__builtins__": __builtins__, "helper": len}
    exec("def act(*args, _default=0): return helper(args)", variables)
    part = process.Process(target=variables["act"], args=("a", 1, 2.0))
    script = process.pack(part).payload
    _script = script if isinstance(script, bytes) else b"".join(script)
    for _ in range(_ENOUGH):
        _play(_script)


def play() -> None:
    """In a standby: does the job once."""
    _last_words.prepare()
    if _script is not None:
        _play(_script)


def _play(script: bytes) -> None:
    part: process.Process = pickle.loads(script)
    part.run()
    process.flush_streams()
    PathFinder.find_spec("forkless_has_no_such_module")
