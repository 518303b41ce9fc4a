"""Programs as other people write them, carried by `python -m forkless`: what they do beside the interface.

Each is run as `python script.py` too, and has to say the same there, so none of it is made up.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support import Outcome, run_program

pytestmark = pytest.mark.timeout(120)

PLAIN = (sys.executable,)
INSTALLED = (sys.executable, "-m", "forkless")


def both(source: str) -> Outcome:
    """The outcome under forkless, which is that under the standard library."""
    plain, carried = (run_program(source, python=python, timeout=50) for python in (PLAIN, INSTALLED))
    assert carried.stdout == plain.stdout, carried.stderr
    assert (carried.exit_code, carried.survivors) == (plain.exit_code, ())
    return carried


# Each prints what it finds, with the standard library and with forkless.
PROGRAMS = {
    # dill does so when it is imported, and with it pathos, pylint, datasets and others.
    "the-name-that-dill-imports": """
import pickle, socket
from multiprocessing.reduction import _reduce_socket
with socket.socket() as ours:
    function, arguments = _reduce_socket(ours)
    print(callable(function), type(arguments).__name__)
""",
    "how-much-of-a-map-is-left": """
import multiprocessing
def same(number):
    return number
if __name__ == "__main__":
    with multiprocessing.Pool(2) as pool:
        result = pool.map_async(same, range(10), chunksize=3)
        print(result.get(30), result._number_left, result._chunksize)
""",
    # Found in many programs since https://github.com/python/cpython/issues/82300.
    "shared-memory-out-of-the-tracker": """
from multiprocessing import Process, resource_tracker, shared_memory
def leave_alone():
    def register(name, kind):
        if kind != "shared_memory":
            resource_tracker._resource_tracker.register(name, kind)
    def unregister(name, kind):
        if kind != "shared_memory":
            resource_tracker._resource_tracker.unregister(name, kind)
    resource_tracker.register, resource_tracker.unregister = register, unregister
    if "shared_memory" in resource_tracker._CLEANUP_FUNCS:
        del resource_tracker._CLEANUP_FUNCS["shared_memory"]
def write(name):
    leave_alone()
    segment = shared_memory.SharedMemory(name=name)
    segment.buf[0] = 7
    segment.close()
if __name__ == "__main__":
    leave_alone()
    segment = shared_memory.SharedMemory(create=True, size=16)
    child = Process(target=write, args=(segment.name,))
    child.start()
    child.join()
    print(segment.buf[0], child.exitcode)
    segment.close()
    segment.unlink()
""",
    # The recipe for a queue that can tell its size on every system, in its two forms.
    "queues-with-a-state-of-their-own": """
import multiprocessing, multiprocessing.queues
class Sized(multiprocessing.queues.Queue):
    def __init__(self):
        super().__init__(ctx=multiprocessing.get_context())
        self.count = multiprocessing.Value("i", 0)
    def __getstate__(self):
        return {"queue": super().__getstate__(), "count": self.count}
    def __setstate__(self, state):
        super().__setstate__(state["queue"])
        self.count = state["count"]
    def put(self, *args, **options):
        super().put(*args, **options)
        with self.count.get_lock():
            self.count.value += 1
    def qsize(self):
        return self.count.value
class Joinable(multiprocessing.queues.JoinableQueue):
    def __init__(self):
        super().__init__(ctx=multiprocessing.get_context())
        self.name = "jobs"
    def __getstate__(self):
        return super().__getstate__() + (self.name,)
    def __setstate__(self, state):
        *rest, self.name = state
        super().__setstate__(tuple(rest))
def work(sized, joinable):
    sized.put(joinable.get())
    sized.put(joinable.name)
    joinable.task_done()
if __name__ == "__main__":
    sized, joinable = Sized(), Joinable()
    joinable.put("first")
    child = multiprocessing.Process(target=work, args=(sized, joinable))
    child.start()
    joinable.join()
    child.join()
    print(sized.qsize(), sized.get(), sized.get(), joinable._maxsize > 0)
""",
    # A library that ends its processes when the program exits, as pebble does; its handler has to come first.
    "an-exit-handler-that-ends-processes": """
import atexit, multiprocessing, multiprocessing.connection, time
@atexit.register
def stop():
    for child in multiprocessing.active_children():
        child.terminate()
    print("stopped", flush=True)
if __name__ == "__main__":
    multiprocessing.Process(target=time.sleep, args=(600,)).start()
""",
    "settings-of-the-interpreter": """
import decimal, json, locale, multiprocessing, socket, sys, threading, warnings
class Mine(UserWarning): pass
sys.setrecursionlimit(6000)
getattr(sys, "set_int_max_str_digits", int)(5000)
threading.stack_size(1 << 20)
decimal.getcontext().prec = 7
decimal.getcontext().traps[decimal.Inexact] = True
socket.setdefaulttimeout(3.5)
locale.setlocale(locale.LC_NUMERIC, "C.UTF-8")
warnings.filterwarnings("error", "never .*", DeprecationWarning, "some.module")
warnings.filterwarnings("ignore", category=Mine)
def deep(number):
    return number and deep(number - 1)
def settings(_=None):
    print(deep(5000), getattr(sys, "get_int_max_str_digits", int)(), threading.stack_size())
    print(decimal.Decimal(1) / 8, decimal.getcontext().prec, decimal.getcontext().traps[decimal.Inexact])
    print(socket.getdefaulttimeout(), locale.setlocale(locale.LC_NUMERIC))
    print([entry for entry in warnings.filters if entry[0] == "error"], flush=True)
if __name__ == "__main__":
    settings()
    child = multiprocessing.Process(target=settings)
    child.start()
    child.join()
    with multiprocessing.Pool(1) as pool:
        pool.map(settings, range(2))
    decimal.setcontext(decimal.Context())
    socket.setdefaulttimeout(None)
    with multiprocessing.Pool(1) as pool:
        pool.map(settings, range(1))
""",
}


# As coverage finds its way into children: it replaces a method, and what it adds to their data does so there.
STOWAWAY = """
import multiprocessing, sys
from multiprocessing import spawn
from multiprocessing.process import BaseProcess
class Stowaway:
    def __reduce__(self):
        return patch, ()
def patch():
    original = BaseProcess._bootstrap
    if "own" not in original.__code__.co_varnames:
        def bootstrap(self, *args, **options):
            own = "watched", self.name
            code = original(self, *args, **options)
            print(*own, code, flush=True)
            return code
        BaseProcess._bootstrap = bootstrap
    prepare = spawn.get_preparation_data
    spawn.get_preparation_data = lambda name: {**prepare(name), "stowaway": Stowaway()}
"""


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_what_is_added_to_the_data_of_children_acts_there(method: str, tmp_path: Path) -> None:
    (tmp_path / "watcher.py").write_text(STOWAWAY)
    source = f"""
import multiprocessing, sys
sys.path.insert(0, {str(tmp_path)!r})
import watcher
watcher.patch()
def work(depth):
    if depth:
        child = multiprocessing.Process(target=work, args=(depth - 1,), name=f"at {{depth - 1}}")
        child.start()
        child.join()
if __name__ == "__main__":
    multiprocessing.set_start_method({method!r})
    work(2)
    with multiprocessing.Pool(1) as pool:
        pool.apply(abs, (1,))
        pool.close()
        pool.join()
"""
    said = run_program(source, python=INSTALLED).check().splitlines()
    assert said[:2] == ["watched at 0 0", "watched at 1 0"]
    assert said[2].startswith("watched PoolWorker-")


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_says_the_same(name: str) -> None:
    assert both(PROGRAMS[name]).stderr == ""


LOGGING = """
import logging, multiprocessing, sys
class Loud(logging.Formatter):
    def format(self, record):
        return super().format(record).upper()
def work(number):
    logging.getLogger("part").info("in child %d", number)
    logging.getLogger("quiet").error("is not seen")
    logging.getLogger("apart").debug("apart %d", number)
def nested():
    child = multiprocessing.Process(target=work, args=(2,))
    child.start()
    child.join()
if __name__ == "__main__":
    handler = logging.FileHandler(sys.argv[1], mode="w")
    handler.setFormatter(Loud("%(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[logging.StreamHandler(sys.stdout), handler])
    logging.getLogger("quiet").disabled = True
    apart = logging.getLogger("apart")
    apart.setLevel("DEBUG")
    apart.propagate = False
    apart.addHandler(logging.StreamHandler(sys.stdout))
    logging.warning("before")
    for target, args in ((work, (1,)), (nested, ())):
        child = multiprocessing.Process(target=target, args=args)
        child.start()
        child.join()
    with multiprocessing.Pool(1) as pool:
        pool.map(work, [3])
    logging.warning("after")
    print(open(sys.argv[1]).read(), end="")
"""


def test_processes_log_as_the_program_has_set_it_up(tmp_path: Path) -> None:
    said = [
        run_program(LOGGING, str(tmp_path / "log"), python=python, timeout=50).check()
        for python in (PLAIN, INSTALLED)
    ]
    assert said[0] == said[1]
    assert said[1].count("INFO PART IN CHILD") == 3


def test_a_process_of_spawn_sets_up_its_own_logging() -> None:
    source = """
import logging, multiprocessing, sys
def work():
    logging.basicConfig(stream=sys.stdout, format="mine: %(message)s")
    logging.warning("once")
if __name__ == "__main__":
    logging.basicConfig(stream=sys.stdout, format="parent: %(message)s")
    child = multiprocessing.get_context("spawn").Process(target=work)
    child.start()
    child.join()
"""
    assert both(source).stdout == "mine: once\n"


def test_what_is_looked_for_in_main_and_was_not_sent_is_an_error_that_says_so() -> None:
    # A decorator that sends the name of what it decorates, as pebble's do.
    source = """
import forkless
def look():
    import __main__
    return getattr(__main__, "absent")
with forkless.Pool(1) as pool:
    try:
        pool.apply(look)
    except AttributeError as error:
        print(error)
"""
    message = run_program(source).check()
    assert message.startswith("module '__main__' has no attribute 'absent': the program does not run in this")


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_a_filter_waits_for_the_module_of_its_warning(method: str, tmp_path: Path) -> None:
    (tmp_path / "library.py").write_text("class Loud(UserWarning): pass\n")
    source = f"""
import sys, warnings
import forkless
sys.path.insert(0, {str(tmp_path)!r})
import library
warnings.simplefilter("error")
warnings.simplefilter("ignore", library.Loud)
def look():
    print("library" in sys.modules)
    import library as mine
    warnings.warn("quiet", mine.Loud)
    try:
        warnings.warn("loud", UserWarning)
    except UserWarning as error:
        print(error)
for _ in range(2):
    child = forkless.get_context({method!r}).Process(target=look)
    child.start()
    child.join()
"""
    outcome = run_program(source, python=INSTALLED)
    assert (outcome.check(), outcome.stderr) == ("False\nloud\n" * 2, "")


def test_objects_that_do_not_know_their_module_are_looked_for_everywhere() -> None:
    # `pickle` asks each loaded module for the name: a ufunc of scipy's, say, as lmfit sends.
    source = """
import forkless
with forkless.Pool(1) as pool:
    pool.apply(abs, (1,))
from forkless import _pickling, _stdlib
class Nameless:
    def __reduce__(self):
        return "zz_is_nowhere_but_here"
zz_is_nowhere_but_here = Nameless()
zz_is_nowhere_but_here.__module__ = None
print(hasattr(_stdlib, "zz_is_nowhere_but_here"), hasattr(_stdlib, "pool"))
_pickling.dumps(zz_is_nowhere_but_here)
"""
    assert run_program(source, python=INSTALLED).check() == "False True\n"


def test_of_fork_a_program_is_told_once_also_if_its_workers_ask_again() -> None:
    # mpire and dask ask when they are imported, which each worker does.
    source = """
import multiprocessing, sys
def ask(number):
    return multiprocessing.get_context("fork").get_start_method()
multiprocessing.get_context("fork")
if __name__ == "__main__":
    with multiprocessing.Pool(2) as pool:
        print(pool.map(ask, range(4), chunksize=1))
    child = multiprocessing.Process(target=ask, args=(1,))
    child.start()
    child.join()
"""
    carried = run_program(source, python=INSTALLED)
    assert carried.check() == f"{['fork'] * 4}\n"
    assert carried.stderr.count("RuntimeWarning") == 1


def test_a_finalizer_that_is_called_after_its_module_is_gone_is_quiet() -> None:
    # As billiard's are, when an interpreter ends.
    source = """
from forkless import util
class Thing:
    pass
thing, other = Thing(), Thing()
finalizer = util.Finalize(thing, print, ("called",)), util.Finalize(other, print, ("not called",))
finalizer[1].cancel()
before = dict(vars(util))
for name in before:
    vars(util)[name] = None
del thing, other
finalizer[0]()
vars(util).update(before)
"""
    outcome = run_program(source)
    assert (outcome.stdout, outcome.stderr) == ("called\n", "")
