"""Managers: objects in a process of their own. See `tests/conformance` for CPython's tests of them."""

from __future__ import annotations

import contextlib
import copy
import gc
import operator
import os
import pickle
import queue
import random
import signal
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import forkless
import pytest
from forkless import ManagerDied, OwnerDied, StaleHandle, managers
from forkless._manager_locks import Condition, Lock
from forkless._proxies import referent
from forkless.managers import BaseManager, BaseProxy, RemoteError, SyncManager
from support import PATIENCE, Outcome, Program, eventually, status_of

RunProgram = Callable[..., Outcome]


class Trouble(Exception):
    """An exception with attributes."""

    def __init__(self, number: int, why: str) -> None:
        super().__init__(f"{number}: {why}")
        self.number = number


class Probe:
    """Runs in the server: looks at its objects, and does what methods should not do."""

    def waiting(self, obj: Any) -> int:
        """How many calls wait in an object of the server."""
        obj = referent(obj)
        conditions = [value for value in vars(obj).values() if isinstance(value, Condition)]
        if isinstance(obj, Condition):
            conditions.append(obj)
        return sum(len(condition._waiters) for condition in conditions)

    def fail(self) -> None:
        raise Trouble(7, "on purpose")

    def leave(self, error: type[BaseException]) -> None:
        raise error("at once")

    def unsendable(self) -> Any:
        return (number for number in range(3))

    def pid(self) -> int:
        return os.getpid()

    def apply(self, function: Callable[..., Any], *args: Any) -> Any:
        return function(*args)

    def _hidden(self) -> None: ...


class Manager(SyncManager):
    """A manager that can be looked into."""


Manager.register("Probe", Probe)
Manager.register("Hidden", Probe, exposed=("_hidden", "pid"))
Manager.register("squares", lambda: (n * n for n in range(4)), managers.IteratorProxy)
Manager.register("Numbers", list, method_to_typeid={"copy": "list", "__iter__": "Iterator"})


@pytest.fixture
def manager() -> Iterator[Any]:
    with Manager() as manager:
        yield manager
    assert manager._process is not None
    manager._process.close()


def run(target: Callable[..., object], *args: Any) -> int | None:
    """Runs a function in a child; its exit code."""
    child = forkless.Process(target=target, args=args)
    child.start()
    child.join(PATIENCE)
    assert not child.is_alive()
    code = child.exitcode
    child.close()
    return code


def killed_in(probe: Any, obj: Any, call: Callable[[Any], object]) -> None:
    """Kills a child in the middle of a call, when it waits in the server."""
    child = forkless.Process(target=call, args=(obj,))
    child.start()
    assert eventually(lambda: probe.waiting(obj) == 1)
    child.kill()
    child.join()
    child.close()


# Objects.


def test_everything_that_a_sync_manager_has(manager: Any) -> None:
    numbers, names = manager.list([3, 1]), manager.dict(a=1)
    numbers.append(2)
    numbers += [5]
    numbers *= 2
    numbers.sort()
    assert numbers[:] == [1, 1, 2, 2, 3, 3, 5, 5]
    assert len(numbers) == 8
    assert 5 in numbers
    assert list(numbers) == numbers.copy() == numbers._getvalue() == copy.deepcopy(numbers)
    names.update(b=2)
    assert sorted(names) == sorted(names.keys()) == ["a", "b"]
    assert names.items() == [("a", 1), ("b", 2)]
    assert names.values() == [1, 2]
    assert names.pop("a") == 1
    assert str(names) == "{'b': 2}"
    assert repr(names).startswith("<DictProxy object, typeid 'dict' at 0x")
    value, array, space = manager.Value("i", 1), manager.Array("i", [1, 2]), manager.Namespace(x=1)
    value.value += 1
    array[0] = 7
    space.y = space.x + 1
    del space.x
    assert (value.value, list(array), str(space)) == (2, [7, 2], "Namespace(y=2)")
    assert not hasattr(space, "x")
    items = manager.Queue(1)
    items.put(1)
    assert items.full()
    with pytest.raises(queue.Full):
        items.put(2, timeout=0.01)
    assert items.get() == 1
    items.task_done()
    items.join()
    event = manager.Event()
    assert not event.wait(0.01)
    event.set()
    assert event.wait()
    semaphore = manager.BoundedSemaphore(1)
    assert semaphore.acquire()
    assert not semaphore.acquire(False)
    semaphore.release()
    with pytest.raises(ValueError, match="too many times"):
        semaphore.release()
    barrier = manager.Barrier(1)
    assert (barrier.wait(), barrier.parties, barrier.n_waiting, barrier.broken) == (0, 1, 0, False)
    with manager.Pool(2) as pool:
        assert pool.map(abs, [-1, 2]) == [1, 2]
        assert pool.apply_async(abs, (-3,)).get(PATIENCE) == 3
        assert list(pool.imap(abs, [-4])) == [4]


def test_children_share_them(manager: Any) -> None:
    names = manager.dict(inner=manager.list())

    def work(names: Any) -> None:
        names["inner"].append(len(list(names)))  # An iterator is another proxy, made in the child.
        names["more"] = os.getpid()

    assert run(work, names) == 0
    assert names["inner"][:] == [1]
    assert names["more"] != os.getpid()


def test_results_may_stay_in_the_server(manager: Any) -> None:
    numbers = manager.Numbers([1, 2])
    other = numbers.copy()
    other.append(3)
    assert isinstance(other, managers.ListProxy)
    assert (numbers.count(3), other[:], list(manager.squares())) == (0, [1, 2, 3], [0, 1, 4, 9])

    def work(numbers: Any) -> None:
        assert numbers.copy()[:] == [1, 2]

    assert run(work, numbers) == 0


def test_objects_refer_to_each_other(manager: Any) -> None:
    outer, inner = manager.dict(), manager.list([1])
    outer["inner"] = inner
    del inner
    assert manager._number_of_objects() == 1
    outer["inner"].append(2)
    inner = outer.pop("inner")
    assert inner[:] == [1, 2]
    inner.append(inner)
    assert inner[2][2][0] == 1
    pair = outer.setdefault("pair", [manager.list([5]), manager.list([6])])
    assert [each[0] for each in pair] == [5, 6]


def test_shared_objects_travel_through_a_manager(manager: Any) -> None:
    names = manager.dict(lock=forkless.Lock(), queue=forkless.Queue())
    with names["lock"]:
        assert not names["lock"].acquire(False)
    names["queue"].put(1)
    assert names["queue"].get() == 1


def test_an_object_lives_while_its_proxy_is_on_its_way(manager: Any) -> None:
    pipe: forkless.Queue[Any] = forkless.Queue()
    pipe.put(manager.list([1]))
    gc.collect()
    assert pipe.get()[:] == [1]
    assert eventually(lambda: manager._number_of_objects() == 0)

    def work(result: Any) -> None:
        result.put(pipe.get())

    result: forkless.Queue[Any] = forkless.Queue()
    pipe.put(manager.list([2]))
    assert run(work, result) == 0
    assert result.get()[:] == [2], "its sender has ended meanwhile"


def test_references_of_a_killed_client_end(manager: Any) -> None:
    ready = manager.Event()

    def work(manager: Any, ready: Any) -> None:
        mine = [manager.list(), manager.dict()]
        ready.set()
        signal.pause()
        del mine

    child = forkless.Process(target=work, args=(manager, ready))
    child.start()
    assert ready.wait(PATIENCE), child
    assert manager._number_of_objects() == 3
    child.kill()
    child.join()
    assert eventually(lambda: manager._number_of_objects() == 1)
    child.close()


def test_a_stale_pickle_says_so(manager: Any) -> None:
    proxy = manager.list()
    payload = pickle.dumps(proxy)
    assert pickle.loads(payload)[:] == []
    del proxy
    assert manager._number_of_objects() == 0
    with pytest.raises(StaleHandle, match="nobody had a proxy of it any more"):
        pickle.loads(payload)


def test_a_manager_can_be_sent(manager: Any) -> None:
    def work(manager: Any, results: Any) -> None:
        results.append(manager.list([1])[:])
        manager.shutdown()  # only its own connection

    results = manager.list()
    assert run(work, manager, results) == 0
    assert results[:] == [[1]]


def test_another_key_travels_within_the_tree() -> None:
    with SyncManager(authkey=b"another") as manager, forkless.Pool(1) as pool:
        numbers = manager.list([1, 2])
        assert pool.apply(len, (numbers,)) == 2
        assert b"another" not in pickle.dumps(numbers)
        assert pickle.loads(pickle.dumps(numbers))[:] == [1, 2]


# Errors.


def test_what_a_method_raises_arrives_with_the_frames_of_the_server(manager: Any) -> None:
    probe = manager.Probe()
    with pytest.raises(Trouble, match="7: on purpose") as caught:
        probe.fail()
    assert caught.value.number == 7
    assert "in fail" in "".join(traceback.format_tb(caught.value.__traceback__))
    with pytest.raises(KeyError):
        manager.dict()["missing"]
    with pytest.raises(queue.Empty):
        manager.Queue().get(timeout=0.01)


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_a_method_cannot_end_the_server_or_the_caller(manager: Any, error: type[BaseException]) -> None:
    probe = manager.Probe()
    with pytest.raises(RemoteError, match=f"{error.__name__} was raised by the method") as caught:
        probe.leave(error)
    assert isinstance(caught.value.__cause__, error)
    assert probe.pid() == manager._process.pid


def test_what_cannot_be_sent_is_named(manager: Any) -> None:
    probe, numbers = manager.Probe(), manager.list()
    with pytest.raises(
        RemoteError, match="'unsendable' of a Probe has returned, a generator, cannot be sent"
    ):
        probe.unsendable()
    with pytest.raises(pickle.PicklingError, match="generator"):
        numbers.append(n for n in range(3))
    assert numbers[:] == []


def test_hidden_methods_are_refused(manager: Any) -> None:
    probe = manager.Probe()
    assert not hasattr(probe, "_hidden")
    with pytest.raises(RemoteError, match="method '_hidden' of a Probe is not exposed"):
        probe._callmethod("_hidden")
    with pytest.raises(RemoteError, match="method '__class__' of a list is not exposed"):
        manager.list()._callmethod("__class__")
    assert manager.Hidden()._hidden() is None
    with pytest.raises(RemoteError, match="'_accept' is nothing that"):
        manager._client.call(None, "_accept", (), {})


def test_an_object_that_cannot_be_made(manager: Any) -> None:
    from multiprocessing.managers import RemoteError as StandardError

    with pytest.raises(
        StandardError, match="ValueError was raised when the manager made a 'Semaphore'"
    ) as caught:
        manager.Semaphore(-1)
    assert isinstance(caught.value.__cause__, ValueError)
    with pytest.raises(RemoteError, match="no type 'Unknown': register"):
        manager._create("Unknown")


def test_an_error_is_free_when_it_was_caught(manager: Any) -> None:
    items = manager.Queue()
    gc.disable()
    try:
        try:
            items.get_nowait()
        except queue.Empty as error:
            seen = weakref.ref(error)
        assert seen() is None
    finally:
        gc.enable()


# Deaths.


def test_the_death_of_the_server_is_an_error_that_says_so() -> None:
    manager = forkless.Manager()
    numbers = manager.list()
    assert manager._process is not None
    name, pid = manager._process.name, manager._process.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(ManagerDied, match=rf"manager {name} \(pid {pid}\) was killed by SIGKILL") as caught:
        numbers.append(1)
    error = caught.value
    assert (error.name, error.pid, error.exitcode) == (name, pid, -signal.SIGKILL)
    for kind in (EOFError, BrokenPipeError, ConnectionResetError, ConnectionRefusedError, FileNotFoundError):
        assert isinstance(error, kind)
    assert isinstance(error, forkless.ProcessError)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.pid) == (str(error), pid)
    with pytest.raises(ManagerDied, match="SIGKILL"):
        manager.dict()
    assert "failed" in str(numbers)
    manager.shutdown()


def test_who_waits_for_a_server_that_dies_is_told() -> None:
    manager: Any = Manager()
    manager.start()
    items, probe = manager.Queue(), manager.Probe()
    told: forkless.Queue[str] = forkless.Queue()

    def work(items: Any) -> None:
        try:
            items.get()
        except ManagerDied as error:
            told.put(str(error))

    child = forkless.Process(target=work, args=(items,))
    child.start()
    assert eventually(lambda: probe.waiting(items) == 1)
    manager._process.kill()
    assert f"(pid {manager._process.pid}) has ended" in told.get(timeout=PATIENCE)
    child.join()
    child.close()
    manager.shutdown()


def test_after_the_shutdown() -> None:
    manager = SyncManager(shutdown_timeout=PATIENCE)
    manager.start()
    numbers = manager.list()
    manager.shutdown()
    manager.shutdown()
    assert manager._process is not None
    assert manager._process.exitcode == 0
    manager.join()
    with pytest.raises(ManagerDied, match="was shut down"):
        numbers.append(1)
    with pytest.raises(AssertionError, match="has been shut down: make a new one"):
        manager.list()
    with pytest.raises(forkless.ProcessError, match="was shut down"):
        manager.start()
    with pytest.raises(AssertionError, match="was not started"):
        SyncManager().list()
    SyncManager().shutdown()


@pytest.mark.parametrize("take", ["get", "get_nowait"])
def test_an_item_does_not_go_to_a_client_that_is_gone(manager: Any, take: str) -> None:
    items, probe = manager.Queue(), manager.Probe()
    killed_in(probe, items, lambda items: items.get())
    items.put(1)
    assert getattr(items, take)() == 1
    assert eventually(lambda: probe.waiting(items) == 0)


def test_what_was_taken_for_a_client_that_is_gone_is_given_back(manager: Any) -> None:
    lock, semaphore, items = manager.Lock(), manager.Semaphore(1), manager.Queue()
    items.put(1)
    calls = [(lock, "acquire"), (semaphore, "acquire"), (items, "get")]
    wires = [manager._client._open(lease=False) for _ in calls]
    # None of them waits, so nobody looks whether the client is there; it is gone before there is an answer.
    os.kill(manager._process.pid, signal.SIGSTOP)
    assert eventually(lambda: status_of(manager._process.pid)[0] == "T")
    for ends, (obj, method) in zip(wires, calls, strict=True):
        ends.write(ends.pack((obj._id, method, (), {})))
        ends.close()
    os.kill(manager._process.pid, signal.SIGCONT)
    assert lock.acquire(timeout=PATIENCE)
    assert semaphore.acquire(timeout=PATIENCE)
    assert items.get(timeout=PATIENCE) == 1


def test_a_notification_does_not_go_to_a_client_that_is_gone(manager: Any) -> None:
    condition, probe = manager.Condition(), manager.Probe()

    def wait(condition: Any) -> None:
        with condition:
            condition.wait()

    children = [forkless.Process(target=wait, args=(condition,)) for _ in range(2)]
    for count, child in enumerate(children):
        child.start()
        assert eventually(lambda: probe.waiting(condition) == count + 1)  # noqa: B023
    first, second = children
    first.kill()
    first.join()
    with condition:
        condition.notify()
    second.join(PATIENCE)
    assert second.exitcode == 0
    for child in children:
        child.close()


def test_a_barrier_that_loses_somebody_is_broken(manager: Any) -> None:
    barrier, probe = manager.Barrier(3), manager.Probe()
    killed_in(probe, barrier, lambda barrier: barrier.wait())
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait(PATIENCE)


def die_holding(lock: Any) -> None:
    lock.acquire()
    os._exit(3)


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_the_lock_of_a_dead_client_is_reported_once(manager: Any, kind: str) -> None:
    lock = getattr(manager, kind)()
    assert run(die_holding, lock) == 3
    with pytest.raises(OwnerDied, match=rf"has ended while it held this {kind} of a manager") as caught:
        lock.acquire()
    assert caught.value.pid
    assert caught.value.held_since
    with lock:
        pass


def test_who_waits_for_a_lock_is_told_of_the_death(manager: Any) -> None:
    lock, held = manager.Lock(), manager.Event()

    def hold(lock: Any, held: Any) -> None:
        lock.acquire()
        held.set()
        signal.pause()

    child = forkless.Process(target=hold, args=(lock, held))
    child.start()
    assert held.wait(PATIENCE), child
    assert not lock.acquire(False)
    child.kill()
    with pytest.raises(OwnerDied):
        lock.acquire(timeout=PATIENCE)
    child.join()
    child.close()


def test_anybody_may_release_the_lock_of_a_dead_client(manager: Any) -> None:
    lock = manager.Lock()
    assert run(die_holding, lock) == 3
    assert eventually(lambda: str(lock) == "<Lock free>")
    lock.release()
    assert lock.acquire(False)
    lock.release()
    with pytest.raises(RuntimeError):
        lock.release()


def test_a_lock_belongs_to_a_thread_of_a_client(manager: Any) -> None:
    lock = manager.RLock()
    assert lock.acquire()
    assert lock.acquire()
    taken: list[bool] = []
    thread = threading.Thread(target=lambda: taken.append(lock.acquire(False)))
    thread.start()
    thread.join()
    assert taken == [False]
    lock.release()
    lock.release()
    with pytest.raises(RuntimeError):
        lock.release()
    with manager.Condition(lock) as taken_again:
        assert taken_again


def test_the_state_of_a_lock_without_clients() -> None:
    lock = Lock()
    assert lock.acquire(timeout=1)
    assert not lock.acquire(False)
    assert not lock.acquire(timeout=0.01)
    with pytest.raises(ValueError, match="non-blocking"):
        lock.acquire(False, 1)
    lock.release()
    condition = Condition(lock)
    with pytest.raises(RuntimeError, match="cannot wait on un-acquired lock"):
        condition.wait()
    with condition:
        assert not condition.wait(0.01)
        assert not condition.wait_for(lambda: False, 0.01)


def use(names: Any, numbers: Any, items: Any, lock: Any) -> None:
    """Uses everything until it is killed."""
    for turn in range(10**9):
        names[turn % 5] = turn
        names["mine"] = copy.copy(numbers)
        items.put(turn)
        with contextlib.suppress(queue.Empty):
            items.get(timeout=0.01)
        with contextlib.suppress(OwnerDied), lock:
            numbers.append(turn)
            assert numbers.pop() == turn or len(numbers)
        names.keys()


def test_clients_killed_at_any_time_leave_nothing(manager: Any) -> None:
    seed = int.from_bytes(os.urandom(4), "little")
    print(f"seed {seed}")
    source = random.Random(seed)
    names, numbers, items, lock = manager.dict(), manager.list(), manager.Queue(), manager.Lock()
    probe = manager.Probe()
    for _ in range(10):
        children = [forkless.Process(target=use, args=(names, numbers, items, lock)) for _ in range(3)]
        for child in children:
            child.start()
        assert eventually(lambda: len(names) == 6)
        time.sleep(source.random() / 10)
        for child in children:
            child.kill()
        for child in children:
            child.join()
            assert child.exitcode == -signal.SIGKILL
            child.close()
        names.clear()
    assert eventually(lambda: manager._number_of_objects() == 5)
    # Its main thread, the one that accepts, and those of our two connections.
    assert eventually(lambda: probe.apply(threading.active_count) == 4)
    with contextlib.suppress(OwnerDied), lock:
        pass
    assert lock.acquire(timeout=PATIENCE)


# Clients.


def test_threads_use_one_proxy(manager: Any) -> None:
    numbers = manager.list()
    before = set(threading.enumerate())
    threads = [threading.Thread(target=lambda: [numbers.append(n) for n in range(50)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == sorted(list(range(50)) * 8)
    assert set(threading.enumerate()) <= before


class Interruption(Exception):
    """Raised by a signal handler."""


def test_a_call_that_was_broken_off_leaves_no_answer_behind(manager: Any) -> None:
    items, numbers, probe = manager.Queue(), manager.list([5]), manager.Probe()
    seen: list[int] = []

    def interrupt(*_: object) -> None:
        seen.append(numbers[0])  # A call in the middle of a call.
        raise Interruption

    before = signal.signal(signal.SIGUSR1, interrupt)

    def help() -> None:
        eventually(lambda: probe.waiting(items) == 1)
        os.kill(os.getpid(), signal.SIGUSR1)

    helper = threading.Thread(target=help)
    try:
        helper.start()
        with pytest.raises(Interruption):
            items.get()
    finally:
        helper.join()
        signal.signal(signal.SIGUSR1, before)
    assert seen == [5]
    assert numbers[0] == 5
    items.put(1)
    assert items.get() == 1


def test_finalizers_let_go_without_waiting(manager: Any) -> None:
    for _ in range(200):
        manager.list()
    assert manager._number_of_objects() == 0
    assert manager._debug_info() == ""
    numbers = manager.list([1])
    assert "refcount=1\n    [1]" in manager._debug_info()
    del numbers


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_copy_of_a_client_has_references_of_its_own(manager: Any) -> None:
    numbers, done = manager.list(), manager.Event()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            numbers.append(os.getpid())
            done.wait()
            numbers.append(2)
            code = 0
        finally:
            os._exit(code)
    assert eventually(lambda: numbers[:] == [pid])
    done.set()
    assert os.waitpid(pid, 0)[1] == 0
    assert numbers[:] == [pid, 2]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_copy_of_a_client_is_told_of_the_death_too() -> None:
    manager = forkless.Manager()
    assert manager._process is not None
    numbers = manager.list()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.read(reader, 1)
            numbers.append(1)
        except ManagerDied as error:
            code = 0 if "has ended" in str(error) else 2
        finally:
            os._exit(code)
    manager._process.kill()
    manager._process.join()
    os.write(writer, b".")
    assert os.waitpid(pid, 0)[1] == 0
    os.close(reader)
    os.close(writer)
    manager.shutdown()
    manager._process.close()


def test_the_server_ends_when_nobody_needs_it() -> None:
    numbers = forkless.Manager().list([1])
    gc.collect()
    assert numbers[:] == [1], "a proxy keeps it"
    pid = numbers._manager._process.pid
    copied = pickle.loads(pickle.dumps(numbers))
    del numbers
    gc.collect()
    assert copied[:] == [1], "so does one that has travelled"
    del copied
    gc.collect()
    assert eventually(lambda: not os.path.exists(f"/proc/{pid}"))


# Starting.


def test_an_initializer_that_fails_is_the_cause() -> None:
    def initialize(what: str) -> None:
        raise Trouble(1, what)

    with pytest.raises(ManagerDied, match="because its initializer raised Trouble: 1: no luck") as caught:
        SyncManager().start(initialize, ("no luck",))
    assert isinstance(caught.value.__cause__, Trouble)
    with pytest.raises(ManagerDied, match="ended with exit code 5 before it was ready"):
        SyncManager().start(lambda: os._exit(5))
    with pytest.raises(TypeError, match="initializer must be a callable"):
        SyncManager().start(1)  # type: ignore[arg-type]


def test_the_initializer_runs_in_the_server() -> None:
    manager: Any = Manager()
    manager.start(lambda name, value: os.environ.update({name: value}), ("FORKLESS_TEST_VALUE", "5"))
    with manager:
        assert manager.Probe().apply(os.getenv, "FORKLESS_TEST_VALUE") == "5"


def test_an_address_in_use_is_an_error_of_the_system() -> None:
    with SyncManager() as first, pytest.raises(OSError, match="in use"):
        SyncManager(first.address).start()


def test_a_manager_is_started_once(manager: Any) -> None:
    for again in (manager.start, manager.get_server):
        with pytest.raises(forkless.ProcessError, match="has a server already"):
            again()
    with pytest.raises(ValueError, match="serializer"):
        SyncManager(serializer="json")


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_every_context_has_a_manager(method: str) -> None:
    with forkless.get_context(method).Manager() as manager:
        assert manager.list([1])[:] == [1]


def test_registering() -> None:
    class Mine(BaseManager):
        """Has a type that its base class has not."""

    Mine.register("Thing", Probe)
    assert "Thing" not in BaseManager._registry
    assert not hasattr(BaseManager, "Thing")
    with pytest.raises(AssertionError, match="1 is not a string"):
        Mine.register("Bad", method_to_typeid={"f": 1})  # type: ignore[dict-item]
    Adder = managers.MakeProxyType("Adder", ("__add__", "__len__"))  # noqa: N806
    assert issubclass(Adder, BaseProxy)
    Mine.register("Adder", list, Adder)
    with Mine() as manager:
        made: Any = manager
        assert len(made.Adder([1])) == 1
        assert made.Thing().apply(operator.add, 1, 2) == 3


def test_a_standard_barrier_of_names() -> None:
    import multiprocessing.managers as standard

    ours, theirs = set(managers.__all__), set(standard.__all__)
    assert theirs <= ours
    proxies = {name for name in vars(standard) if name.endswith("Proxy") and name[0] != "_"}
    assert {name for name in proxies if not name.startswith("Base")} <= ours
    for name in ours:
        assert getattr(managers, name) is not None


# Other programs.

SERVER = """
import sys
from forkless.managers import BaseManager
class Store(BaseManager): ...
data = {"a": 1}
Store.register("data", callable=lambda: data, exposed=("__getitem__", "__setitem__", "get"))
server = Store(address=eval(sys.argv[1]), authkey=b"key").get_server()
print(repr(server.address), flush=True)
server.serve_forever()
"""


class Store(BaseManager):
    """Connects to that."""


Store.register("data", exposed=("__getitem__", "__setitem__", "get"))


@pytest.mark.parametrize("address", ["('127.0.0.1', 0)", "None"])
def test_a_server_of_another_program(address: str, run_program: RunProgram) -> None:
    with Program(SERVER, address) as program:
        where = eval(program.wait_for(r".+\n"))
        with pytest.raises(forkless.AuthenticationError):
            Store(where, b"wrong").connect()
        store: Any = Store(where, authkey=b"key")
        store.connect(timeout=PATIENCE)
        data = store.data()
        assert data.get("a") == 1
        source = f"""
import forkless, pickle
forkless.current_process().authkey = b"key"
pickle.loads({pickle.dumps(data)!r})["b"] = 2
"""
        run_program(source, environ={"PYTHONPATH": os.pathsep.join(sys.path)}).check()
        assert data.get("b") == 2
        program.signal(signal.SIGKILL)
        program.finish()
        with pytest.raises(ManagerDied, match=rf"\(pid {program.pid}\) has"):
            data.get("a")
        store.shutdown()
        with pytest.raises(ManagerDied, match="cannot be reached"):
            Store(where, authkey=b"key").connect()


def test_a_server_that_does_not_answer() -> None:
    import socket

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(forkless.TimeoutError):
            Store(silent.getsockname(), b"key").connect(timeout=0.1)


def test_plain_data_over_xml() -> None:
    class Plain(BaseManager):
        """Speaks XML."""

    Plain.register("items", queue.Queue)
    with Plain(serializer="xmlrpclib") as manager:
        made: Any = manager
        items = made.items()
        items.put((1, None, "ä", b"b"))
        assert items.get() == [1, None, "ä", b"b"]
        with pytest.raises(TypeError):
            items.put(len)
        with pytest.raises(RemoteError, match=r"queue\.Empty"):
            items.get_nowait()


PROGRAM = """
import forkless, os, signal, sys
class Counter:
    def __init__(self): self.count = 0
    def add(self, step): self.count += step; return self.count
class Mine(forkless.managers.BaseManager): ...
Mine.register("Counter", Counter)
Mine.register("three", lambda: [1, 2, 3])
with Mine() as manager:
    print(manager.Counter().add(2), manager.three().pop())
"""


@pytest.mark.parametrize("how", ["file", "command", "stdin"])
def test_no_guard_is_needed(how: str, run_program: RunProgram) -> None:
    assert run_program(PROGRAM, how=how).check() == "2 3\n"


def test_exceptions_of_main_arrive_in_children_that_never_saw_them(run_program: RunProgram) -> None:
    source = """
import forkless
class Oops(Exception):
    def __init__(self, number, more):
        super().__init__(number)
        self.more = more
class Thing:
    def go(self): raise Oops(1, [2])
class Mine(forkless.managers.BaseManager): ...
Mine.register("Thing", Thing)
def work(thing):
    try:
        thing.go()
    except Exception as error:
        print(repr(error), error.more, flush=True)
with Mine() as manager:
    process = forkless.Process(target=work, args=(manager.Thing(),))
    process.start()
    process.join()
    try:
        manager.Thing().go()
    except Oops as error:
        print(error)
"""
    assert run_program(source).check() == "Oops(1) [2]\n1\n"


def test_children_outlive_the_main_program_but_not_its_manager(run_program: RunProgram) -> None:
    source = """
import forkless, time
manager = forkless.Manager()
numbers, go = manager.list(), manager.Event()
def work(numbers, go, end):
    end.recv()
    numbers.append(1)
    print(numbers, flush=True)
here, there = forkless.Pipe()
forkless.Process(target=work, args=(numbers, go, there)).start()
import atexit
atexit.register(lambda: None)
here.send("go")
"""
    assert run_program(source).check() == "[1]\n"


def test_a_manager_that_was_not_shut_down_does_not_keep_the_program(run_program: RunProgram) -> None:
    source = "import forkless\nmanager = forkless.Manager()\nnumbers = manager.list()\nprint(1)\n"
    outcome = run_program(source)
    assert outcome.check() == "1\n"
    assert outcome.stderr == ""


def test_ctrl_c_leaves_the_server_to_the_program() -> None:
    source = """
import forkless, signal
manager = forkless.Manager()
numbers, items = manager.list(), manager.Queue()
print("ready", flush=True)
try:
    items.get()
except KeyboardInterrupt:
    numbers.append("cleaned up")
    print(numbers, flush=True)
"""
    with Program(source) as program:
        program.wait_for("ready")
        program.interrupt()
        outcome = program.finish()
    assert outcome.check() == "ready\n['cleaned up']\n"
    assert outcome.stderr == ""


def test_the_server_ends_with_its_parent() -> None:
    source = """
import forkless, signal
manager = forkless.Manager()
print("ready", flush=True)
signal.pause()
"""
    with Program(source) as program:
        program.wait_for("ready")
        program.signal(signal.SIGKILL)
        assert program.finish().survivors == ()


def test_segments_of_a_manager_end_with_it() -> None:
    pytest.importorskip("forkless.shared_memory")
    with managers.SharedMemoryManager() as manager:
        memory, numbers = manager.SharedMemory(8), manager.ShareableList([1, 2])
        memory.buf[0] = 7
        assert run(operator.setitem, numbers, 0, 5) == 0
        assert list(numbers) == [5, 2]
        name = memory.name
        kind = type(memory)
        numbers.shm.close()
        memory.close()
    with pytest.raises(FileNotFoundError):
        kind(name)
