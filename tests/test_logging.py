"""The logger of `forkless.util`, and what else is there: finalizers, hooks for forks, a directory."""

from __future__ import annotations

import gc
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import forkless
import pytest
from forkless import util
from support import Outcome

Run = Callable[..., Outcome]
METHODS = ["forkserver", "spawn"]


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    """What the logger says in this process, with everything switched on."""
    logger = forkless.get_logger()
    level, found = logger.level, list[logging.LogRecord]()

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record)

    handler = Keep()
    logger.addHandler(handler)
    logger.setLevel(1)
    yield found
    logger.removeHandler(handler)
    logger.setLevel(level)


def texts(records: list[logging.LogRecord]) -> list[str]:
    """Level and message of each, with numbers of processes and children made alike."""
    return [
        f"{record.levelname} {re.sub('(?<=pid )[0-9]+', 'N', re.sub('-[0-9]+', '-#', record.getMessage()))}"
        for record in records
    ]


# --- the logger ---


def test_the_logger_is_that_of_multiprocessing() -> None:
    logger = forkless.get_logger()
    assert logger is util.get_logger() is forkless.get_context("spawn").get_logger()
    assert logger is logging.getLogger("multiprocessing")
    assert not logger.propagate
    assert (util.SUBDEBUG, util.SUBWARNING) == (5, 25) == (forkless.SUBDEBUG, forkless.SUBWARNING)


def test_nothing_is_logged_before_somebody_asks(run_program: Run) -> None:
    source = """
import sys, forkless
child = forkless.Process(target=int)
child.start()
child.join()
with forkless.Pool(1) as pool:
    pool.apply(int)
assert not {"logging", "forkless.util"} & set(sys.modules) - {"logging"}
from forkless import util
util.info("to nobody")
assert "logging" not in sys.modules or util._logger is None
"""
    outcome = run_program(source)
    assert (outcome.check(), outcome.stderr) == ("", "")


@pytest.mark.parametrize("method", METHODS)
def test_the_parent_says_how_children_fare(method: str, records: list[logging.LogRecord]) -> None:
    context = forkless.get_context(method)
    child = context.Process(target=os._exit, args=(3,), name="one")
    child.start()
    child.join()
    child.join()
    killed = context.Process(target=forkless.Event().wait, name="two")
    killed.start()
    killed.kill()
    killed.join()
    assert texts(records) == [
        "INFO one has started with pid N",
        "INFO one (pid N) has ended with exit code 3",
        "INFO two has started with pid N",
        "INFO two (pid N) has ended with exit code -SIGKILL",
    ]
    assert f"pid {child.pid}" in records[0].getMessage()
    assert {record.processName for record in records} == {"MainProcess"}


def test_pools_say_what_they_do(records: list[logging.LogRecord]) -> None:
    with forkless.Pool(1) as pool:
        pool.apply(int)
        pool.close()
        pool.join()
    assert [text for text in texts(records) if "pool" in text] == [
        "DEBUG closing pool",
        "DEBUG joining pool",
        "DEBUG terminating pool",
    ]
    assert [text for text in texts(records) if "Worker" in text] == [
        "INFO PoolWorker-# has started with pid N",
        "INFO PoolWorker-# (pid N) has ended with exit code 0",
    ]


CHILDREN = """
import forkless
from forkless import util
logger = forkless.log_to_stderr({level!r})
def work():
    util.sub_debug("sub-debug")
    util.debug("debug")
    util.info("info")
    util.sub_warning("sub-warning")
    util.get_logger().error("error")
child = forkless.get_context({method!r}).Process(target=work, name="Child")
child.start()
child.join()
"""


@pytest.mark.parametrize("method", METHODS)
def test_children_log_as_their_parent(method: str, run_program: Run) -> None:
    outcome = run_program(CHILDREN.format(method=method, level="INFO"))
    assert outcome.check() == ""
    lines = [line for line in outcome.stderr.splitlines() if "/Child]" in line]
    assert lines == [
        "[INFO/Child] child process calling self.run()",
        "[INFO/Child] info",
        "[Level 25/Child] sub-warning",
        "[ERROR/Child] error",
        "[INFO/Child] process shutting down",
        "[INFO/Child] process exiting with exitcode 0",
    ]
    parent = [line for line in outcome.stderr.splitlines() if "/MainProcess]" in line]
    assert [re.sub("[0-9]+", "N", line) for line in parent] == [
        "[INFO/MainProcess] Child has started with pid N",
        "[INFO/MainProcess] Child (pid N) has ended with exit code N",
        "[INFO/MainProcess] process shutting down",
    ]


@pytest.mark.parametrize("method", METHODS)
def test_the_level_is_taken_over(method: str) -> None:
    logger, results = forkless.get_logger(), forkless.SimpleQueue[int]()

    def look() -> None:
        results.put(forkless.get_logger().getEffectiveLevel())

    before = logger.level, logging.root.level
    try:
        for level, of_root, expected in ((37, 30, 37), (logging.NOTSET, 40, 40)):
            logger.setLevel(level)
            logging.root.setLevel(of_root)
            child = forkless.get_context(method).Process(target=look)
            child.start()
            assert results.get() == expected
            child.join()
    finally:
        logger.setLevel(before[0])
        logging.root.setLevel(before[1])


def test_workers_and_grandchildren_log_too(run_program: Run) -> None:
    source = """
import forkless
forkless.log_to_stderr("INFO")
def grandchild():
    forkless.get_logger().info("from a grandchild")
def task():
    forkless.get_logger().info("from a task")
    child = forkless.Process(target=grandchild, name="Grandchild")
    child.start()
    child.join()
with forkless.Pool(1) as pool:
    pool.apply(task)
"""
    lines = run_program(source).stderr.splitlines()
    assert "[INFO/PoolWorker-1] from a task" in lines
    assert "[INFO/Grandchild] from a grandchild" in lines


def test_the_caller_is_the_one_who_logs(records: list[logging.LogRecord]) -> None:
    util.info("here %d", 1)
    forkless.get_logger().info("and %s", "here")
    assert [(record.getMessage(), record.filename) for record in records] == [
        ("here 1", "test_logging.py"),
        ("and here", "test_logging.py"),
    ]


def test_log_to_stderr(run_program: Run) -> None:
    source = """
import forkless, logging
logger = forkless.get_context("spawn").log_to_stderr()
assert logger is forkless.get_logger() and logger.level == logging.NOTSET
logger.warning("once")
logging.basicConfig()
logger.warning("and once more")
"""
    text = run_program(source).stderr
    assert text == "[WARNING/MainProcess] once\n[WARNING/MainProcess] and once more\n"


# --- finalizers ---


class Thing:
    """Something that can be dropped."""


def test_a_finalizer_runs_once() -> None:
    calls: list[Any] = []
    finalizer = util.Finalize(None, lambda *args, **kwds: calls.append((args, kwds)), (1,), {"a": 2}, 10)
    assert finalizer.still_active()
    assert "exitpriority=10" in repr(finalizer)
    assert "args=(1,)" in repr(finalizer)
    finalizer()
    finalizer()
    assert calls == [((1,), {"a": 2})]
    assert not finalizer.still_active()
    assert "dead" in repr(finalizer)
    finalizer.cancel()


def test_a_finalizer_runs_with_its_object() -> None:
    calls: list[int] = []
    thing, other = Thing(), Thing()
    first = util.Finalize(thing, calls.append, (1,))
    second = util.Finalize(other, calls.append, (2,))
    second.cancel()
    del thing, other
    gc.collect()
    assert calls == [1]
    assert not first.still_active()
    assert not second.still_active()
    assert util.Finalize(None, lambda: 7, exitpriority=0)() == 7


def test_a_finalizer_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="Without object, exitpriority cannot be None"):
        util.Finalize(None, int)
    with pytest.raises(TypeError, match="must be None or int"):
        util.Finalize(None, int, exitpriority="high")  # type: ignore[arg-type]


FINALIZERS = """
import os, sys, forkless
from forkless import util
class Thing: pass
def work():
    def say(text): print(text, flush=True)
    util.Finalize(None, say, ("last",), exitpriority=-1)
    util.Finalize(None, say, ("third",), exitpriority=0)
    util.Finalize(None, lambda: 1 / 0, exitpriority=5)
    util.Finalize(None, say, ("second",), exitpriority=5)
    thing.kept = util.Finalize(thing, say, ("never",))
    util.Finalize(thing, say, ("first",), exitpriority=10)
    assert not util.is_exiting()
    util.Finalize(None, lambda: say(f"exiting {{util.is_exiting()}}"), exitpriority=100)
    {more}
thing = Thing()
{run}
"""


@pytest.mark.parametrize(
    ("run", "more"),
    [
        ("work()", ""),
        *(
            (f"p = forkless.get_context({m!r}).Process(target=work); p.start(); p.join()", "")
            for m in METHODS
        ),
        ("pool = forkless.Pool(1, work); pool.apply(int); pool.close(); pool.join()", ""),
        ("work()", "p = forkless.Process(target=lambda: say('second')); p.daemon = True"),
    ],
)
def test_finalizers_run_at_the_exit_in_order(run: str, more: str, run_program: Run) -> None:
    outcome = run_program(FINALIZERS.format(run=run, more=more))
    assert outcome.check().split("\n") == ["exiting True", "first", "second", "third", "last", ""]
    assert outcome.stderr.count("ZeroDivisionError") == 1


def test_finalizers_run_before_children_are_ended_and_after(run_program: Run) -> None:
    source = """
import forkless
from forkless import util
child = forkless.Process(target=forkless.Event().wait, daemon=True)
child.start()
util.Finalize(None, lambda: print(child.is_alive()), exitpriority=0)
util.Finalize(None, lambda: print(child.is_alive()), exitpriority=-1)
"""
    assert run_program(source).check() == "True\nFalse\n"


def test_an_exit_by_hand(run_program: Run) -> None:
    source = """
import atexit, os, forkless
from forkless import util
child = forkless.Process(target=forkless.Event().wait, daemon=True)
child.start()
for priority in (-1, 1):
    util.Finalize(None, lambda: print(child.is_alive(), flush=True), exitpriority=priority)
atexit.unregister(util._exit_function)  # as programs do that fork; it is none of its functions
util._exit_function()
os._exit(0)
"""
    assert run_program(source).check() == "True\nFalse\n"


def test_finalizers_are_of_one_process(run_program: Run) -> None:
    source = """
import os, forkless
from forkless import util
util.Finalize(None, print, ("of the parent",), exitpriority=1)
child = forkless.Process(target=int)
child.start()
child.join()
pid = os.fork()
if pid == 0:
    util._run_finalizers()
    util.Finalize(None, print, ("of the copy",), exitpriority=1)
    raise SystemExit
os.waitpid(pid, 0)
"""
    assert run_program(source).check() == "of the copy\nof the parent\n"


def test_a_finalizer_in_the_midst_of_others(run_program: Run) -> None:
    source = """
from forkless import util
def first():
    second.cancel()
    util.Finalize(None, print, ("new",), exitpriority=1)
util.Finalize(None, first, exitpriority=9)
second = util.Finalize(None, print, ("cancelled",), exitpriority=8)
util.Finalize(None, print, ("third",), exitpriority=7)
"""
    assert run_program(source).check() == "third\nnew\n"


# --- after a fork ---


def test_what_is_to_be_done_after_a_fork(run_program: Run) -> None:
    source = """
import os, forkless
from forkless import util
class Thing:
    def renew(self): print("renewed", self.name, flush=True)
things = []
for name in ("a", "b", "c"):
    thing = Thing(); thing.name = name
    util.register_after_fork(thing, Thing.renew)
    things.append(thing)
del things[1], thing
util.register_after_fork(things[0], lambda thing: 1 / 0)
lock, local = util.ForkAwareThreadLock(), util.ForkAwareLocal()
local.x = 1
lock.acquire()
pid = os.fork()
if pid == 0:
    with lock:
        print(hasattr(local, "x"), flush=True)
    os._exit(0)
os.waitpid(pid, 0)
assert lock._lock.locked() and local.x == 1
child = forkless.Process(target=int)
child.start()
child.join()
"""
    assert run_program(source).check() == "renewed a\nrenewed c\nFalse\n"


def test_what_a_preloaded_module_made_is_renewed(tmp_path: Path, run_program: Run) -> None:
    (tmp_path / "has_state.py").write_text("""
from forkless import util
class Cache:
    owner = "template"
    def renew(self):
        self.owner = "child"
cache = Cache()
util.register_after_fork(cache, Cache.renew)
util.Finalize(None, print, ("never: it is the template's",), exitpriority=1)
""")
    source = """
import forkless, sys
sys.path.insert(0, {folder!r})
forkless.set_forkserver_preload(["has_state"])
def look():
    import has_state
    print(has_state.cache.owner, flush=True)
for _ in range(3):
    child = forkless.Process(target=look)
    child.start()
    child.join()
"""
    assert run_program(source.format(folder=str(tmp_path))).check() == "child\n" * 3


def test_locks_that_know_of_forks() -> None:
    lock = util.ForkAwareThreadLock()
    with lock:
        assert not lock.acquire(False)
    assert lock.acquire()
    lock.release()
    local = util.ForkAwareLocal()
    local.x = 1
    assert local.__reduce__() == (util.ForkAwareLocal, ())
    seen: list[bool] = []
    thread = threading.Thread(target=lambda: seen.append(hasattr(local, "x")))
    thread.start()
    thread.join()
    assert seen == [False]


# --- files and descriptors ---


def test_a_directory_that_is_gone_at_the_end(run_program: Run) -> None:
    source = """
import os, forkless
from forkless import util
path = util.get_temp_dir()
open(os.path.join(path, "file"), "w").close()
assert path == util.get_temp_dir()
def look():
    print(util.get_temp_dir() == path, os.listdir(path), flush=True)
for method in ("forkserver", "spawn"):
    child = forkless.get_context(method).Process(target=look)
    child.start()
    child.join()
print(path)
"""
    *lines, path = run_program(source).check().splitlines()
    assert lines == ["True ['file']"] * 2
    assert not os.path.exists(path)


def test_descriptors(run_program: Run) -> None:
    source = """
import os
from forkless import util
reader, writer = os.pipe()
os.set_inheritable(writer, False)
pid = util.spawnv_passfds("/bin/sh", ["sh", "-c", f"echo passed >&{writer}"], [writer])
os.waitpid(pid, 0)
print(os.read(reader, 100))
util.close_fds(writer)
print(os.read(reader, 1))
os.dup2(reader, 50)
util.close_all_fds_except([0, 1, 2])
print(sorted(map(int, os.listdir("/proc/self/fd")))[:3], os.path.exists("/proc/self/fd/50"), flush=True)
os._exit(0)
"""
    assert run_program(source).check() == "b'passed\\n'\nb''\n[0, 1, 2] False\n"
    with pytest.raises(AssertionError, match="fd too large"):
        util.close_all_fds_except([util.MAXFD + 1])


def test_addresses() -> None:
    abstract = util.is_abstract_socket_namespace
    assert [abstract(x) for x in ("\0x", b"\0x", "x", b"x", "", None)] == [True, True, *[False] * 4]
    with pytest.raises(TypeError, match="address type of"):
        abstract(3)  # type: ignore[arg-type]
    assert util.abstract_sockets_supported


def test_what_others_look_for() -> None:
    assert isinstance(util._args_from_interpreter_flags(), list)  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = util.nothing  # type: ignore[attr-defined]
    assert forkless.current_process()._config["semprefix"] == "/mp"
    forkless.current_process()._config["daemon"] = False
    util._flush_std_streams()
