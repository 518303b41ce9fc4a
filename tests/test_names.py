"""Every public name of `multiprocessing`: whether it is there, and is what docs/names.md says it is.

The package `names` finds them, has the list of differences, and makes the page.
"""

from __future__ import annotations

import importlib
import importlib.util
import multiprocessing
import pickle
import platform
import sys
from collections.abc import Callable, Iterator
from typing import Any

import forkless
import forkless.pool
import pytest
from forkless import _internals
from names import page, survey
from names.differences import DIFFERS, NOT_THERE
from support import PATIENCE, Outcome

MODULES = survey.modules()
Run = Callable[..., Outcome]


def theirs(module: str) -> Iterator[tuple[str, Any]]:
    """The names that forkless has itself."""
    for name, value in survey.names(module).items():
        if not page.is_internal(module, name.partition(".")[0]) and name not in NOT_THERE.get(module, ()):
            yield name, value


# --- what there is ---


@pytest.mark.parametrize("module", MODULES)
def test_every_name_is_there(module: str) -> None:
    missing = []
    for name in survey.names(module):
        try:
            survey.find(module, name)
        except AttributeError:
            missing.append(name)
    assert sorted(missing) == sorted(NOT_THERE.get(module, ()))


@pytest.mark.parametrize("module", MODULES)
def test_every_call_that_works_there_works_here(module: str) -> None:
    for name, value in theirs(module):
        if name.rpartition(".")[2].startswith("__"):
            continue  # Called by the interpreter, by position.
        complaint = survey.complaint(value, survey.find(module, name), method="." in name)
        listed = page.difference(module, name)
        if listed is None or not listed.calls:
            assert complaint is None, f"{module}.{name}: {complaint}"


@pytest.mark.parametrize("module", MODULES)
def test_constants_have_the_same_values(module: str) -> None:
    for name, value in theirs(module):
        constant = isinstance(value, int | str | bytes | float | tuple | list | dict) and "." not in name
        if constant and page.difference(module, name) is None:
            assert survey.find(module, name) == value, f"{module}.{name}"


@pytest.mark.parametrize("module", MODULES)
def test_a_star_gives_at_least_what_it_gives_there(module: str) -> None:
    found: dict[str, Any] = {}
    exec(f"from {survey.ours(module)} import *", found)
    public: list[str] = importlib.import_module(module).__all__
    assert {name for name in public if name != "_main"} - set(found) == set()
    listed = importlib.import_module(survey.ours(module)).__all__
    assert len(listed) == len(set(listed))


def test_everything_that_comes_from_the_standard_library_is_known() -> None:
    for part, listed in _internals.NAMES.items():
        ours, there = (importlib.import_module(f"{home}.{part}") for home in ("forkless", "multiprocessing"))
        for name in listed:
            assert name not in vars(ours)
            if hasattr(there, name):
                assert getattr(ours, name) is getattr(there, name)
        with pytest.raises(AttributeError, match=f"module 'forkless.{part}' has no attribute 'nothing'"):
            _ = ours.nothing


def test_the_package_has_no_public_names_that_are_not_listed() -> None:
    ordinary = {name for name in dir(forkless) if not name.startswith("_")}
    assert ordinary - set(forkless.__all__) == {*forkless._MODULES, *forkless._CONSTANTS} - {"joblib"}


INSTALLED = """
import importlib, sys
import forkless
forkless.install()
def look():
    missing = []
    for module, listed in {names!r}.items():
        home = importlib.import_module(module)
        assert home is importlib.import_module("forkless" + module.removeprefix("multiprocessing"))
        missing += [f"{{module}}.{{name}}" for name in listed if not hasattr(home, name)]
    return missing
print(look())
for method in ("forkserver", "spawn"):
    with forkless.get_context(method).Pool(1) as pool:
        print(pool.apply(look))
import multiprocessing.dummy.connection, multiprocessing.util
with multiprocessing.dummy.Pool(2) as threads:
    print(threads.map(abs, [-1]), type(threads).__module__)
here, there = multiprocessing.dummy.Pipe()
here.send(multiprocessing.heap.Heap.__module__)
print(there.recv())
"""


def test_every_name_is_there_for_a_program_that_is_installed(run_program: Run) -> None:
    names = {module: [name for name in survey.names(module) if "." not in name] for module in MODULES}
    outcome = run_program(INSTALLED.format(names=names))
    assert outcome.check().splitlines() == ["[]"] * 3 + ["[1] forkless._threads", "multiprocessing.heap"]


# --- what is said about it ---


def test_the_page_is_that_of_today() -> None:
    assert page.PAGE.read_text(encoding="utf-8") == page.render(), "run `python -m names` in the folder tests"


def test_the_record_is_that_of_this_python() -> None:
    pythons, recorded = page.record()
    version = platform.python_version().rpartition(".")[0]
    if pythons.get(version) != platform.python_version():
        pytest.skip(f"the record is of {pythons.get(version)}; another one may have other names")
    here = {module: sorted(survey.names(module)) for module in MODULES}
    noted = {
        module: sorted(name for name, versions in names.items() if version in versions)
        for module, names in recorded.items()
    }
    assert here == noted, "run `python -m names` in the folder tests"


def test_every_difference_is_one_of_a_name_that_exists() -> None:
    _, recorded = page.record()
    listed = [
        (module, name) for each in (DIFFERS, NOT_THERE) for module, names in each.items() for name in names
    ]
    for module, name in listed:
        known = recorded[module]
        if name.endswith(".*"):
            assert name[:-2] in known, f"{module}.{name}"
        else:
            assert name in known, f"{module}.{name}"
        assert not page.is_internal(module, name.partition(".")[0])


@pytest.mark.parametrize("module", [module for module in MODULES if module in DIFFERS])
def test_what_is_said_to_take_other_arguments_does(module: str) -> None:
    values = survey.names(module)
    for entry, listed in DIFFERS[module].items():
        names = [name for name in values if page.difference(module, name) is listed]
        if not listed.calls or not names:
            continue
        found = [
            survey.complaint(values[name], survey.find(module, name), method="." in name)
            for name in names
            if name not in NOT_THERE.get(module, ())
        ]
        assert any(found), f"{module}.{entry} takes all that it takes there: `calls` is not true any more"


def test_the_page_has_a_line_for_every_name() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    for module in MODULES:
        section = text.split(f"\n## `{module}`\n")[1].split("\n## ")[0]
        for name in survey.names(module):
            assert "." in name or f"\n| `{name}` | " in section, f"{module}.{name}"


def test_a_missing_name_or_a_wrong_signature_is_noticed() -> None:
    def wanted(a: int, b: int = 0, *, c: int = 0) -> None: ...

    def fewer(a: int) -> None: ...
    def other(a: int, x: int = 0, *, c: int = 0) -> None: ...
    def stricter(a: int, b: int, *, c: int = 0) -> None: ...
    def more(a: int, b: int = 0, *, c: int = 0, d: int) -> None: ...
    def swapped(b: int = 0, a: int = 0, *, c: int = 0) -> None: ...
    def wider(a: int, b: int = 0, e: int = 0, *, c: int = 0, **d: int) -> None: ...
    def anything(*a: Any, **b: Any) -> None: ...

    for function in (wanted, wider, anything):
        assert survey.complaint(wanted, function) is None
    assert survey.complaint(wanted, fewer) == "it takes no b by position"
    assert survey.complaint(wanted, other) == "it takes no b by name"
    assert survey.complaint(wanted, stricter) == "b has no default"
    assert survey.complaint(wanted, more) == "it wants a d"
    assert survey.complaint(wanted, swapped) == "a is in another place"
    assert survey.complaint(wanted, 3) == "it cannot be called"
    with pytest.raises(AttributeError):
        survey.find("multiprocessing.pool", "Pool.no_such_method")


# --- what the names that are new here do ---


def test_names_are_modules_without_being_imported(run_program: Run) -> None:
    source = f"""
import forkless
for module in {[module.split(".")[1] for module in MODULES if module.count(".") == 1]}:
    assert getattr(forkless, module).__name__ == f"forkless.{{module}}"
assert forkless.reducer is forkless.reduction is forkless.context.reduction
assert forkless.managers.shared_memory is forkless.shared_memory
"""
    run_program(source).check()


def test_classes_of_the_standard_library_are_not_made_by_contexts() -> None:
    for method in ("forkserver", "spawn"):
        context = forkless.get_context(method)
        for name in dir(multiprocessing.context.BaseContext):
            if not name.startswith("_"):
                value = getattr(context, name)
                assert getattr(value, "__module__", "forkless").startswith("forkless"), name


def test_another_reducer_is_a_warning() -> None:
    context = forkless.get_context()
    with pytest.warns(
        RuntimeWarning, match="register how types are pickled with forkless.reduction.register"
    ):
        context.reducer = object()
    assert context.reducer is forkless.reduction


def test_the_default_context_follows_what_is_chosen() -> None:
    context = forkless.context.DefaultContext()
    assert isinstance(context, multiprocessing.context.BaseContext)
    before = forkless.get_start_method(allow_none=True)
    try:
        for method in ("spawn", "forkserver"):
            context.set_start_method(method)
            assert context.get_start_method() == forkless.get_start_method() == method
            assert context.get_context() is forkless.get_context(method)
        with context.Pool(1) as pool:
            assert pool.apply(abs, (-1,)) == 1
    finally:
        forkless.set_start_method(before)


def test_there_is_nothing_that_forks() -> None:
    makers: list[Callable[..., Any]] = [forkless.context.ForkProcess, lambda: forkless.get_context("fork")]
    for make in makers:
        with pytest.raises(ValueError, match="forkless never forks your process"):
            make()
    assert not isinstance(forkless.get_context(), forkless.context.ForkContext)


class Token:
    """Something that refuses to be pickled but for a process, as classes of the standard library do."""

    def __reduce__(self) -> tuple[Any, ...]:
        if forkless.context.get_spawning_popen() is None:
            raise RuntimeError("only for a process")
        forkless.context.assert_spawning(self)
        return Token, ()


def test_picklers_of_others_see_a_process_that_starts() -> None:
    with pytest.raises(RuntimeError, match="only for a process"):
        pickle.dumps(Token())
    queue = forkless.SimpleQueue[str]()
    child = forkless.Process(target=lambda token: queue.put(type(token).__name__), args=(Token(),))
    child.start()
    assert queue.get() == "Token"
    child.join()
    forkless.context.set_spawning_popen(self := object())
    try:
        assert forkless.context.get_spawning_popen() is self
    finally:
        forkless.context.set_spawning_popen(None)
    assert forkless.context.get_spawning_popen() is None


def test_semaphores_of_all_kinds_are_for_isinstance() -> None:
    for obj in (forkless.Lock(), forkless.RLock(), forkless.Semaphore(), forkless.BoundedSemaphore()):
        assert isinstance(obj, forkless.synchronize.SemLock)
    assert not isinstance(forkless.Event(), forkless.synchronize.SemLock)
    with pytest.raises(TypeError):
        forkless.synchronize.SemLock()  # type: ignore[abstract]
    most = forkless.synchronize.SEM_VALUE_MAX
    assert forkless.Semaphore(most).get_value() == most


@pytest.mark.parametrize(
    "make",
    [
        forkless.synchronize.Lock,
        forkless.synchronize.RLock,
        forkless.synchronize.Semaphore,
        forkless.synchronize.BoundedSemaphore,
        forkless.synchronize.Condition,
        forkless.synchronize.Event,
        lambda ctx: forkless.synchronize.Barrier(1, ctx=ctx),
    ],
)
def test_objects_take_a_context(make: Callable[..., Any]) -> None:
    assert pickle.loads(pickle.dumps(make(ctx=forkless.get_context("spawn")))) is not None


def test_the_errors_of_queues() -> None:
    import queue

    assert (forkless.queues.Empty, forkless.queues.Full) == (queue.Empty, queue.Full)
    with pytest.raises(forkless.queues.Empty):
        forkless.Queue[int](1).get_nowait()


@pytest.mark.parametrize("name", ["_reader", "_writer", "_rlock"])
def test_the_insides_of_queues_that_programs_look_for(name: str) -> None:
    queue = forkless.Queue[int]()
    assert not hasattr(queue, name)
    with pytest.raises(AttributeError, match=f"no attribute .{name}.: a queue of forkless has no pipe in it"):
        getattr(queue, name)
    with pytest.raises(AttributeError, match="'Queue' object has no attribute 'nothing'"):
        getattr(queue, "nothing")  # noqa: B009


def test_a_started_process_has_a_popen() -> None:
    for method in ("forkserver", "spawn"):
        child = forkless.get_context(method).Process(target=sys.exit, args=(3,))
        assert not child._popen
        child.start()
        popen = child._popen
        assert (popen.pid, popen.sentinel, popen.method) == (child.pid, child.sentinel, method)
        assert popen.wait(PATIENCE) == popen.poll() == popen.returncode == 3
        assert isinstance(popen, forkless.popen_fork.Popen)
        child.close()
    with pytest.raises(ValueError, match="forkless never forks"):
        forkless.popen_fork.Popen(forkless.Process())
    with pytest.raises(ValueError, match="start a process with its method"):
        forkless.popen_spawn_posix.Popen(forkless.Process())


def test_a_killed_child_by_its_popen() -> None:
    child = forkless.Process(target=forkless.Event().wait)
    child.start()
    assert child._popen.poll() is None
    child._popen.kill()
    assert child._popen.wait() == -9


def test_names_of_the_forkserver(run_program: Run) -> None:
    source = """
import forkless
from forkless import _forkless, forkserver
forkserver.set_forkserver_preload(["decimal"])
forkserver.ensure_running()
roles = [role for _, _, role in _forkless.processes()]
assert roles.count("template") == 1, roles
def loaded():
    import sys
    return "decimal" in sys.modules
with forkless.Pool(1) as pool:
    assert pool.apply(loaded)
"""
    run_program(source).check()


def test_there_is_no_tracker(run_program: Run) -> None:
    source = """
import os
from forkless import ProcessError, resource_sharer, resource_tracker
before = os.listdir("/proc/self/fd")
resource_tracker.ensure_running()
resource_tracker.unregister("nothing", "shared_memory")
resource_tracker.register("nothing", "shared_memory")
resource_tracker._resource_tracker._stop()
resource_sharer.stop(timeout=1)
assert os.listdir("/proc/self/fd") == before
try:
    resource_tracker.getfd()
except ProcessError as error:
    print(error)
"""
    assert "no resource tracker" in run_program(source).check()


def test_the_interpreter_of_children(run_program: Run) -> None:
    source = """
import os, sys
from forkless import spawn
kind = str if sys.version_info < (3, 11) else bytes
assert isinstance(spawn.get_executable(), kind)
assert os.fsdecode(spawn.get_executable()) == sys.executable
spawn.set_executable("/no/such/python")
assert os.fsdecode(spawn.get_executable()) == "/no/such/python"
assert not spawn.is_forking(sys.argv) and spawn.is_forking(["x", "--multiprocessing-fork"])
"""
    run_program(source).check()


def test_a_manager_says_in_which_state_it_is() -> None:
    manager = forkless.managers.SyncManager()
    state = forkless.managers.State
    assert manager._state.value == state.INITIAL
    with manager:
        assert manager._state.value == state.STARTED
    assert manager._state.value == state.SHUTDOWN


# --- what programs derive from ---


class NoDaemonProcess(forkless.Process):
    """As many programs have it, since daemons of the standard library may have no children."""

    @property
    def daemon(self) -> bool:
        """Never."""
        return False

    @daemon.setter
    def daemon(self, value: bool) -> None:
        pass


class NoDaemonContext(type(forkless.get_context("forkserver"))):  # type: ignore[misc]
    """Its context."""

    Process = NoDaemonProcess


class NestablePool(forkless.pool.Pool):
    """Its pool."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "context": NoDaemonContext()})


def nested(number: int) -> int:
    """A task that has a pool of its own."""
    with forkless.Pool(1) as pool:
        return int(pool.apply(abs, (number,)))


def test_a_pool_of_processes_that_are_no_daemons() -> None:
    with NestablePool(2) as pool:
        assert pool.map(nested, [-1, -2]) == [1, 2]


def test_a_queue_that_is_derived_from() -> None:
    class Counting(forkless.queues.Queue[int]):
        def __init__(self, maxsize: int = 0) -> None:
            super().__init__(maxsize, ctx=forkless.get_context())
            self.count = 0

        def put(self, *args: Any, **kwargs: Any) -> None:
            self.count += 1
            super().put(*args, **kwargs)

    queue = Counting(3)
    queue.put(1)
    assert (queue.count, queue.get()) == (1, 1)
