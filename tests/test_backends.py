"""Executors of clusters, as far as no cluster is needed: addresses, options, what travels, the scheduler."""

from __future__ import annotations

import concurrent.futures
import gc
import pickle
import queue
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from typing import Any

import forkless
import numpy
import pytest
from forkless import _errors
from forkless._backends import ClusterExecutor, blocks, engine, pickles, wire
from forkless._backends.engine import Address, Demand, Lost
from forkless._backends.options import options_for
from forkless._backends.scheduler import ClusterScheduler
from forkless._pickling import PicklingError
from hypothesis import given
from hypothesis import strategies as st
from support import PATIENCE, Program, run_program

HERE = Address("dask", "", 0)


class Reference:
    """What the engine has of a piece of shared memory."""

    def __init__(self, pickled: bytes) -> None:
        self.pickled = pickled


class Threads:
    """An engine that is a thread of this process. What it gets and gives goes through pickles here, too."""

    title = "Thread"
    unsupported = {"timeout": "be patient"}  # noqa: RUF012
    ahead = 3, 4
    arrived: Callable[[int], None]

    def __init__(self, slots: int = 1) -> None:
        self.puts: list[weakref.ref[Any]] = []
        self.started: list[str] = []
        self.cancelled: list[Any] = []
        self.running: set[Any] = set()
        self.fault: Exception | None = None
        self.lost: str | None = None
        self.deaths = 0
        self.is_closed = False
        self.can_keep = False
        self._replies: dict[int, bytes] = {}
        self._slots = slots

    def connect(self, timeout: float) -> None:
        if self.fault is not None:
            raise self.fault
        self._jobs: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._serve, daemon=True) for _ in range(self._slots)]
        for thread in self._threads:
            thread.start()

    def unreachable(self, timeout: float) -> ConnectionError:
        return engine.unreachable(HERE, timeout, "wait longer")

    def slots(self) -> int:
        return self._slots

    def put(self, memory: Any) -> Any:
        reference = Reference(pickle.dumps(memory, 5))
        self.puts.append(weakref.ref(reference))
        return reference

    def keep(self, block: blocks.Block) -> tuple[memoryview, Any]:
        if self.fault is not None:
            raise self.fault
        reference = Reference(pickle.dumps(block, 5))
        self.puts.append(weakref.ref(reference))
        return memoryview(bytes(block.view)), reference

    def start(self, number: int, message: wire.Message, memory: list[Any], demand: Demand) -> Any:
        if self.fault is not None:
            raise self.fault
        self.started.append(demand.name)
        sent = pickle.dumps((message, [pickle.loads(each.pickled) for each in memory]), 5)
        self._jobs.put((number, sent))
        return number

    def _serve(self) -> None:
        for number, sent in iter(self._jobs.get, None):
            message, memory = pickle.loads(sent)
            self._replies[number] = pickle.dumps(wire.run(message, *memory), 5)
            self.arrived(number)

    def fetch(self, handles: Sequence[Any]) -> list[Any]:
        replies: list[Any] = []
        for handle in handles:
            reply = pickle.loads(self._replies.pop(handle))
            if self.deaths:
                self.deaths -= 1
                reply = Lost("died", "a thread has died", "thread", 7)
            replies.append(reply)
        return replies

    def cancel(self, handle: Any) -> None:
        self.cancelled.append(handle)

    def tend(self) -> None:
        pass

    def was_late(self, handle: Any) -> bool:
        return False

    def is_running(self, handle: Any) -> bool:
        return bool(self.running)

    def complaint(self) -> str | None:
        return self.lost

    def close(self) -> None:
        self.is_closed = True
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()


def executor_of(threads: Threads) -> ClusterExecutor:
    """An executor over that engine."""
    executor: Any = ClusterExecutor.__new__(ClusterExecutor)
    executor._context = None
    executor._scheduler = ClusterScheduler(HERE, threads, PATIENCE)
    return executor  # type: ignore[no-any-return]


@pytest.fixture
def threads() -> Threads:
    return Threads()


@pytest.fixture
def executor(threads: Threads) -> Iterator[ClusterExecutor]:
    with executor_of(threads) as made:
        yield made


class Held:
    """Keeps the only thread of an engine busy until it is let go."""

    gates: dict[int, Held] = {}  # noqa: RUF012

    def __init__(self, executor: forkless.Executor) -> None:
        self.begun, self.end = threading.Event(), threading.Event()
        self.gates[id(self)] = self
        self.future = executor.submit(Held.wait, id(self))
        assert self.begun.wait(PATIENCE)

    @classmethod
    def wait(cls, number: int) -> str:
        cls.gates[number].begun.set()
        assert cls.gates[number].end.wait(PATIENCE)
        return "held"


# Addresses and arguments.


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("ray", ("ray", "", 0)),
        ("dask", ("dask", "", 0)),
        ("ray://head:10001", ("ray", "head", 10001)),
        ("dask://10.0.0.1:8786/", ("dask", "10.0.0.1", 8786)),
        ("dask://[::1]:8786", ("dask", "::1", 8786)),
    ],
)
def test_addresses(text: str, address: tuple[str, str, int]) -> None:
    parsed = engine.parse(text)
    assert parsed == address
    assert engine.parse(str(parsed)) == parsed


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "Ray",
            "spark",
            "ray:",
            "ray://",
            "ray://head",
            "ray://head:",
            "ray://head:0",
            "ray://head:65536",
        ),
        *(
            "dask://:8786",
            "dask://a b:1",
            "tcp://head:8786",
            "ray://user@head:1",
            "dask://::1:8786",
            "ray\n",
            "2",
        ),
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="names no backend; known are") as caught:
        forkless.Executor(text)
    for form in ('"ray"', '"ray://HOST:PORT"', '"dask"', '"dask://HOST:PORT"', "Executor()"):
        assert form in str(caught.value)


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    for candidate in (text, f"ray://{text}", f"dask://{text}:1"):
        try:
            parsed = engine.parse(candidate)
        except ValueError:
            continue
        assert parsed.engine in ("ray", "dask")
        assert parsed.host or candidate == parsed.engine


@pytest.mark.parametrize("where", ["ray", "dask://127.0.0.1:1"])
@pytest.mark.parametrize(
    "option",
    [
        *(
            "mp_context",
            "initializer",
            "initargs",
            "max_tasks_per_child",
            "exit",
            "worker_state",
            "env",
            "cpus",
        ),
        *("threads", "max_memory_per_child", "idle_timeout", "output"),
    ],
)
def test_arguments_for_processes_are_refused_with_advice(where: str, option: str) -> None:
    with pytest.raises(
        NotImplementedError, match=f"^'{option}' is for processes of this machine, .+: .+"
    ) as caught:
        forkless.Executor(where, **{option: None})
    assert where in str(caught.value)
    assert "{" not in str(caught.value).replace("{'", "").replace('{"', "")


def test_unknown_and_wrong_arguments() -> None:
    make: Any = forkless.Executor
    with pytest.raises(
        TypeError, match="unexpected keyword argument 'colour'; for clusters there is connect_timeout"
    ):
        make("ray", colour=1)
    for wrong in (0, -1, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="connect_timeout must be more than 0 seconds"):
            make("ray", connect_timeout=wrong)
    for odd in ("soon", True):
        with pytest.raises(TypeError, match="connect_timeout must be a number of seconds"):
            make("dask", connect_timeout=odd)
    with pytest.raises(TypeError, match="connect_timeout is for clusters"):
        make(2, connect_timeout=3)
    with pytest.raises(TypeError):
        make("ray", 3)


def test_subclasses_are_of_processes() -> None:
    class Mine(forkless.Executor):
        pass

    with pytest.raises(TypeError, match="max_workers"):
        Mine("ray")


def test_nothing_is_loaded_for_processes() -> None:
    source = """
import sys, forkless
with forkless.Executor(1) as executor:
    executor.submit(pow, 2, 10).result()
print([name for name in sys.modules if "_backends" in name or name in ("ray", "dask", "distributed")])
"""
    assert run_program(source).check() == "[]\n"


@pytest.mark.parametrize(
    ("where", "module"), [("ray", "ray"), ("dask", "distributed"), ("dask://a:1", "distributed")]
)
def test_a_missing_package_is_named_with_its_extra(where: str, module: str) -> None:
    source = """
import sys, forkless
where, module = sys.argv[1:]
sys.modules[module] = None
try:
    forkless.Executor(where)
except ImportError as error:
    print(type(error).__name__, error.name, error)
"""
    extra = where.partition(":")[0]
    text = f'Executor("{extra}") needs {module}, which is not installed: pip install "forkless[{extra}]"'
    assert run_program(source, where, module).check() == f"ModuleNotFoundError {module} {text}\n"


def test_options() -> None:
    threads: Any = Threads()
    assert options_for(threads, None) is None
    made = options_for(threads, None, priority=2, resources={"GPU": 1})
    assert made is not None
    assert (made.priority, made.resources, made.retries) == (2, {"GPU": 1}, None)
    more = options_for(threads, made, retries=1, name="x")
    assert more is not None
    assert more.retries is not None
    assert (more.priority, more.resources, more.name, more.retries.times) == (2, {"GPU": 1}, "x", 1)
    with pytest.raises(NotImplementedError, match="Thread has no 'timeout' for tasks: be patient"):
        options_for(threads, None, timeout=3)
    with pytest.raises(TypeError, match="unexpected keyword argument 'gpus'"):
        options_for(threads, None, gpus=3)
    for wrong in (3, [("GPU", 1)], {1: 1}, {"GPU": "one"}, {"GPU": True}):
        with pytest.raises(TypeError):
            options_for(threads, None, resources=wrong)  # type: ignore[arg-type]
    for amount in (-1, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="the amount of GPU"):
            options_for(threads, None, resources={"GPU": amount})
    with (
        forkless.Executor(1) as executor,
        pytest.raises(TypeError, match="resources are for tasks of clusters"),
    ):
        executor.options(resources={"GPU": 1})


# What travels.


def travel(obj: Any) -> Any:
    """An object after a journey to another machine, as far as one process can tell."""
    packed = pickles.pack((obj,))
    memory = {token: blocks.portable(each) for token, each in packed.memory.items()}
    parts, memory = pickle.loads(pickle.dumps((packed.parts, memory), 5))
    (found,) = pickles.loads(parts, {token: blocks.arrived(token, each) for token, each in memory.items()})
    return found


@given(
    st.recursive(
        st.none() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
        lambda each: st.lists(each) | st.dictionaries(st.text(), each) | st.tuples(each, each),
    )
)
def test_plain_values_travel(value: Any) -> None:
    assert travel(value) == value


@given(
    st.sampled_from(["u1", "i4", "f8", "c16", "M8[s]", "U3"]),
    st.lists(st.integers(0, 5), min_size=1, max_size=3),
    st.sampled_from([slice(None), slice(None, None, -1), slice(1, None, 2)]),
    st.booleans(),
)
def test_shared_arrays_travel_by_token(dtype: str, shape: list[int], part: slice, turned: bool) -> None:
    shared = forkless.share(numpy.arange(numpy.prod(shape)).reshape(shape).astype(dtype))
    view = shared[part].T if turned else shared[part]
    packed = pickles.pack(view)
    assert len(packed.memory) == 1
    assert pickles.size_of(packed.parts) < 1500
    found = travel(view)
    assert found.dtype == view.dtype
    assert found.shape == view.shape
    assert (found == view).all()
    assert not found.flags.writeable


def test_large_buffers_travel_beside_the_pickle_and_keep_their_permission() -> None:
    arrays: tuple[Any, ...] = (
        numpy.zeros(50_000),
        numpy.zeros((200, 300), order="F"),
        bytearray(b"1" * 50_000),
    )
    for array in arrays:
        packed = pickles.pack(array)
        assert packed.memory == {}
        found = travel(array)
        assert bytes(memoryview(found).tobytes()) == memoryview(array).tobytes()
        assert not memoryview(found).readonly
    fixed = numpy.zeros(50_000)
    fixed.flags.writeable = False
    assert len(pickles.pack(fixed).payload) < 500
    assert not travel(fixed).flags.writeable


def test_shared_things_of_all_kinds() -> None:
    rows = forkless.share([{"name": "Ada"}, {"name": "Alan"}])
    found = travel({"rows": rows, "again": rows})
    assert type(found["rows"]) is forkless.SharedList
    assert found["rows"] == [{"name": "Ada"}, {"name": "Alan"}]
    assert found["again"] is found["rows"]
    table = travel(forkless.share({"a": [1, 2]}))
    assert type(table) is forkless.SharedDict
    assert table["a"].tolist() == [1, 2]
    data = travel(forkless.share(b"abcdef"))
    assert (type(data), bytes(data), data.readonly) == (memoryview, b"abcdef", True)
    part = memoryview(forkless.share(b"x" * 100_000))[7:99_000]
    assert len(pickles.pack(part).memory) == 1
    assert (len(travel(part)), travel(part).readonly) == (98_993, True)
    shared: Any = forkless.share(numpy.arange(6, dtype="i4").reshape(2, 3))
    numbers = travel(memoryview(shared))
    assert (numbers.format, numbers.shape, numbers[1, 2]) == ("i", (2, 3), 5)


def test_a_frame_of_shared_memory_takes_nothing_along() -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is in requirements-dev.txt")
    frame = forkless.share(pandas.DataFrame({"a": range(50_000), "b": 0.5}))
    packed = pickles.pack(frame)
    assert len(packed.memory) == 1
    assert pickles.size_of(packed.parts) < 20_000
    assert travel(frame).equals(frame)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        *(
            (getattr(forkless, name), name)
            for name in ("Lock", "RLock", "Event", "Condition", "Semaphore", "Queue")
        ),
        (lambda: forkless.Value("i"), "Synchronized"),
        (lambda: forkless.Array("i", 3), "SynchronizedArray"),
        (lambda: forkless.Process(target=int), "Process"),
        (lambda: forkless.SimpleQueue(), "SimpleQueue"),
        (lambda: forkless.JoinableQueue(), "JoinableQueue"),
        (lambda: forkless.Barrier(2), "Barrier"),
    ],
)
def test_what_lives_on_one_machine_is_refused_by_name(make: Callable[[], Any], name: str) -> None:
    kept = make()
    text = rf"args\[0\]\['it'\]: a {name} of forkless lives in the shared memory of one machine"
    with pytest.raises(PicklingError, match=text):
        pickles.pack((len, ({"it": kept},), {}), ("function", "args", "kwargs"))


def test_pools_and_executors_are_refused() -> None:
    with forkless.Executor(1) as executor, pytest.raises(TypeError, match="let the task return what is next"):
        pickles.pack(executor)
    with forkless.Pool(1) as pool, pytest.raises(TypeError, match="a Pool of forkless"):
        pickles.pack(pool)


def test_an_unsealed_array_is_refused_and_a_sealed_one_travels() -> None:
    made = forkless.zeros(10)
    with pytest.raises(TypeError, match=r"seal it first \(forkless.seal\(array\)"):
        pickles.pack(made)
    forkless.seal(made)
    assert len(pickles.pack(made).memory) == 1
    assert travel(made).tolist() == [0] * 10


def test_another_version_on_a_node_says_so() -> None:
    job = wire.Job(
        wire.FORMAT + 1, None, pickles.pack((abs, (-1,), {})).parts, False, None, (), "Test worker"
    )
    reply = wire.Reply(*wire.decode(wire.run(wire.encode(job))))
    assert not reply.done
    with pytest.raises(RuntimeError, match="is of another version than where the task was submitted"):
        raise _errors.rebuild(pickles.loads(reply.value)[0])


# The scheduler.


def test_the_calls(executor: ClusterExecutor) -> None:
    assert isinstance(executor, forkless.Executor)
    assert executor.submit(pow, 2, 10).result(PATIENCE) == 1024
    assert list(executor.map(abs, range(-5, 0), chunksize=2)) == [5, 4, 3, 2, 1]
    with pytest.raises(ZeroDivisionError):
        executor.submit(divmod, 1, 0).result(PATIENCE)
    assert executor._max_workers == 1
    assert repr(executor) == "<forkless.Executor dask state=RUN max_workers=1>"
    for call in (executor.stream, executor.options(priority=1).stream):
        with pytest.raises(NotImplementedError, match="streams are for processes of this machine"):
            call(range, 3)
    for end in (executor.terminate_workers, executor.kill_workers):
        with pytest.raises(NotImplementedError, match="belong to the cluster"):
            end()
    items: forkless.Queue[object] = forkless.Queue()
    with pytest.raises(TypeError, match="an executor of dask stays where it was made"):
        items.put(executor)


def test_priorities_and_names(executor: ClusterExecutor, threads: Threads) -> None:
    held = Held(executor)
    low = [executor.options(name=f"low {number}").submit(int) for number in range(40)]
    high = executor.options(name="high", priority=1).submit(int)
    held.end.set()
    concurrent.futures.wait([*low, high], timeout=PATIENCE)
    assert "low 39" in threads.started
    assert threads.started.index("high") < threads.started.index("low 20")


def test_only_a_window_is_handed_over_and_the_rest_can_be_cancelled(
    executor: ClusterExecutor, threads: Threads
) -> None:
    held = Held(executor)
    rest = [executor.submit(int) for _ in range(100)]
    assert not held.future.give_up()
    assert held.future.running()
    cancelled = [future for future in rest if future.give_up()]
    assert len(cancelled) > 80
    assert all(future.cancelled() and not future.running() for future in cancelled)
    held.end.set()
    assert held.future.result(PATIENCE) == "held"
    assert [future.result(PATIENCE) for future in rest if future not in cancelled] == [0] * (
        100 - len(cancelled)
    )
    assert executor.statistics().waiting == executor.statistics().sent == 0


def test_cancel_asks_the_engine(executor: ClusterExecutor, threads: Threads) -> None:
    held = Held(executor)
    threads.running.add(1)
    assert not held.future.cancel()
    threads.running.clear()
    called: list[bool] = []
    held.future.add_done_callback(lambda future: called.append(future.cancelled()))
    assert held.future.cancel()
    assert held.future.cancelled()
    assert called == [True]
    with pytest.raises(CancelledError):
        held.future.result(PATIENCE)
    held.end.set()
    assert executor.submit(int).result(PATIENCE) == 0
    assert len(threads.cancelled) == 1


def test_waiting_for_a_cancelled_future_ends(executor: ClusterExecutor) -> None:
    held = Held(executor)
    waiter = threading.Thread(target=lambda: concurrent.futures.wait([held.future], timeout=PATIENCE))
    waiter.start()
    assert held.future.cancel()
    waiter.join(PATIENCE)
    assert not waiter.is_alive()
    held.end.set()


def test_a_death_is_an_error_of_its_task_and_can_be_retried(
    executor: ClusterExecutor, threads: Threads
) -> None:
    threads.deaths = 1
    with pytest.raises(
        forkless.WorkerDied, match=r"a thread has died while it ran pow\(2, 3\); this task"
    ) as caught:
        executor.submit(pow, 2, 3).result(PATIENCE)
    assert (caught.value.task, caught.value.arguments, caught.value.worker, caught.value.pid) == (
        *("pow", "2, 3", "thread"),
        7,
    )
    threads.deaths = 2
    retry = forkless.Retry(2, delay=0.001, on=(forkless.WorkerDied,))
    assert executor.options(retries=retry).submit(pow, 2, 3).result(PATIENCE) == 8
    statistics = executor.statistics()
    assert (statistics.lost, statistics.retried) == (3, 2)


def test_shared_memory_is_put_once_and_released_with_it(executor: ClusterExecutor, threads: Threads) -> None:
    shared = forkless.share(numpy.arange(1000.0))
    assert list(executor.map(numpy.sum, [shared[:n] for n in range(1, 20)])) == [
        n * (n - 1) / 2 for n in range(1, 20)
    ]
    assert executor.submit(numpy.sum, shared).result(PATIENCE) == 499500
    assert len(threads.puts) == 1
    assert threads.puts[0]() is not None
    del shared
    gc.collect()
    executor.submit(int).result(PATIENCE)
    executor.submit(int).result(PATIENCE)
    assert threads.puts[0]() is None


def test_a_map_pickles_its_function_once(executor: ClusterExecutor, threads: Threads) -> None:
    class Counted:
        pickled = 0

        def __reduce__(self) -> Any:
            Counted.pickled += 1
            return pow, (2, 5)

    counted: Any = Counted()
    for calls in (executor, executor.options(priority=1)):
        assert list(calls.map(lambda left, right: (counted, left + right), range(5), [1] * 9)) == [
            (32, n + 1) for n in range(5)
        ]
    assert Counted.pickled == 2
    lock = threading.Lock()
    results = executor.map(lambda number: (lock, number), range(3))
    with pytest.raises(TypeError, match="cannot pickle"):
        next(results)
    threads.deaths = 1
    with pytest.raises(forkless.WorkerDied, match=r"while it ran pow\(2, 3\); this task"):
        list(executor.map(pow, [2], [3]))


def settled(executor: ClusterExecutor) -> None:
    """Waits until the collector has done what it was told before."""
    for _ in range(2):
        executor.submit(int).result(20)


def test_what_an_executor_shares_is_sent_before_a_task_uses_it(
    executor: ClusterExecutor, threads: Threads
) -> None:
    for made in (numpy.arange(1000.0), b"x" * 1000, [1, 2, 3]):
        before = len(threads.puts)
        shared = executor.share(made)
        settled(executor)
        assert len(threads.puts) == before + 1
        assert executor.share(shared) is shared
        assert executor.submit(len, shared).result(20) == len(made)
        assert len(threads.puts) == before + 1
    del shared
    gc.collect()
    settled(executor)
    assert [reference for reference in threads.puts if reference() is not None] == []


@given(
    st.sampled_from(["u1", "i4", "f8", "c16", "M8[s]", "U3"]),
    st.lists(st.integers(1, 5), min_size=0, max_size=3),
    st.sampled_from(["C", "F", "gaps"]),
)
def test_arrays_are_kept_by_the_engine_as_they_are(dtype: str, shape: list[int], order: str) -> None:
    with executor_of(Threads()) as executor:
        executor._scheduler.engine.can_keep = True
        array: Any = numpy.arange(numpy.prod(shape)).reshape(shape).astype(dtype)
        if order != "gaps":
            array = array.copy(order)
        elif shape:
            array = numpy.repeat(array, 2, -1)[..., ::2]
        kept: Any = executor.share(array)
        assert (kept.dtype, kept.shape) == (array.dtype, array.shape)
        assert (kept == array).all()
        assert not kept.flags.writeable
        with pytest.raises(ValueError, match="cannot set WRITEABLE flag"):
            kept.flags.writeable = True
        array[...] = array.flat[0]
        assert executor.submit(numpy.array_equal, kept.T, kept.copy().T).result(20)
        assert len(pickles.pack(kept[..., ::-1] if shape else kept).memory) == 1


def test_a_kept_array_is_sent_to_each_other_executor_once(threads: Threads) -> None:
    others = Threads()
    threads.can_keep = True
    with executor_of(threads) as executor, executor_of(others) as other:
        kept = executor.share(numpy.arange(1000.0))
        assert [executor.submit(numpy.sum, kept[n:]).result(20) for n in (0, 998)] == [499500, 1997]
        assert [other.submit(numpy.sum, kept[n:]).result(20) for n in (0, 998)] == [499500, 1997]
        assert other.share(kept) is kept
        # As any other array, it goes to a process of this machine, and into its shared memory.
        with forkless.Executor(1) as processes:
            assert processes.submit(numpy.sum, kept).result(20) == 499500
            assert processes.submit(numpy.sum, processes.share(kept)).result(20) == 499500
        settled(other)
        assert (len(threads.puts), len(others.puts)) == (1, 1)
        del kept
        gc.collect()
        settled(executor)
        settled(other)
        assert (threads.puts[0](), others.puts[0]()) == (None, None)


@pytest.mark.parametrize("still", [True, False])
def test_the_connection_stays_while_a_kept_array_is_read(threads: Threads, still: bool) -> None:
    threads.can_keep = True
    with executor_of(threads) as executor:
        kept = executor.share(numpy.arange(1000.0))[10:20]
        if not still:
            del kept
            gc.collect()
    assert threads.is_closed is not still
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.share(numpy.arange(3))
    executor._scheduler.at_exit()
    assert threads.is_closed


def test_what_cannot_be_kept_is_an_error_that_leaves_nothing(threads: Threads) -> None:
    threads.can_keep = True
    with executor_of(threads) as executor:
        with pytest.raises(TypeError, match="its items are Python objects"):
            executor.share(numpy.array([object()]))
        threads.fault = OSError("full")
        with pytest.raises(OSError, match="full"):
            executor.share(numpy.arange(3))
    assert threads.is_closed


def test_processes_share_likewise() -> None:
    with forkless.Executor(1) as executor:
        shared = executor.share(numpy.arange(1000.0))
        assert executor.share(shared) is shared
        assert executor.submit(numpy.sum, shared).result(20) == 499500


def test_large_copies_can_be_written_to() -> None:
    array = numpy.arange(1_000_000.0)
    found = travel(array)
    assert (found == array).all()
    found[:] = 7
    assert found.sum() == 7e6
    assert pickles.pack(found).memory == {}


def test_shutdown(threads: Threads) -> None:
    executor = executor_of(threads)
    held = Held(executor)
    rest = [executor.submit(int) for _ in range(50)]
    executor.shutdown(wait=False, cancel_futures=True)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(int)
    assert sum(future.cancelled() for future in rest) > 30
    held.end.set()
    executor.shutdown()
    assert held.future.result() == "held"
    assert all(future.done() for future in rest)
    assert threads.is_closed
    assert "state=CLOSE" in repr(executor)


def test_terminate_fails_what_is_not_done(threads: Threads) -> None:
    executor = executor_of(threads)
    held = Held(executor)
    waiting = executor.submit(int)
    # As `with` does when Ctrl-C has ended its block; the thread of the engine has to end, too.
    waiting.add_done_callback(lambda _: held.end.set())
    executor.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    for future in (held.future, waiting):
        assert isinstance(future.exception(PATIENCE), forkless.BrokenPool)
    assert threads.is_closed


def test_a_lost_connection_breaks_the_executor(threads: Threads) -> None:
    executor = executor_of(threads)
    held = Held(executor)
    threads.lost = "the cluster has gone"
    assert "the cluster has gone" in str(held.future.exception(PATIENCE))
    with pytest.raises(forkless.BrokenPool, match="the cluster has gone"):
        executor.submit(int)
    held.end.set()
    executor.shutdown()
    assert executor._broken == "the cluster has gone"


def test_what_the_engine_refuses_is_an_error_of_the_task(executor: ClusterExecutor, threads: Threads) -> None:
    threads.fault = ValueError("no such resource")
    future = executor.options(resources={"GPU": 1.5}).submit(pow, 2, 3)
    with pytest.raises(forkless.BrokenPool, match=r"Thread has refused pow\(2, 3\): no such resource"):
        future.result(PATIENCE)
    threads.fault = None
    assert executor.submit(pow, 2, 3).result(PATIENCE) == 8


def test_a_connection_that_fails_leaves_no_thread(threads: Threads) -> None:
    threads.fault = ConnectionError("no route")
    before = threading.active_count()
    with pytest.raises(ConnectionError, match="no route"):
        executor_of(threads)
    for thread in threading.enumerate():
        if thread.name.startswith("forkless dask"):
            thread.join(PATIENCE)
    assert threading.active_count() <= before


def test_submit_in_a_finaliser_and_in_a_callback(executor: ClusterExecutor) -> None:
    found: list[Any] = []

    class Last:
        def __del__(self) -> None:
            found.append(executor.submit(pow, 2, 5))

    last = Last()
    del last
    gc.collect()
    done = threading.Event()

    def again(future: Any) -> None:
        found.append(executor.submit(pow, 2, future.result()))
        done.set()

    executor.submit(pow, 2, 3).add_done_callback(again)
    assert done.wait(PATIENCE)
    assert [future.result(PATIENCE) for future in found] == [32, 256]


def test_what_is_accepted_is_done_at_exit() -> None:
    source = """
import sys
sys.path.insert(0, sys.argv[1])
from test_backends import Threads, executor_of
threads = Threads()
executor = executor_of(threads)
for number in range(30):
    executor.submit(pow, 2, number).add_done_callback(lambda f: print(f.result(), flush=True))
"""
    import os

    output = run_program(source, os.path.dirname(__file__)).check()
    assert output.split() == [str(2**number) for number in range(30)]


def test_a_late_task_has_its_grace_after_its_machine_stood_still() -> None:
    """Where both moments, that of the end of the limit and that of the grace, go by without it."""
    source = """
import sys, time
from types import SimpleNamespace
from forkless._interrupted import TaskInterrupted
sys.modules["forkless._backends.ray"] = SimpleNamespace(note_late=lambda: int)
from forkless._backends import limit
limit._GRACE = 2
def work():
    print("ready", flush=True)
    try:
        time.sleep(600)
    finally:
        time.sleep(0.2)
        print("cleaned up", flush=True)
try:
    limit.run_for(0.5, work)
except TaskInterrupted:
    print("broken off")
"""
    with Program(source) as program:
        program.wait_for("ready")
        program.signal(signal.SIGSTOP)
        time.sleep(3)  # more than limit and grace
        program.signal(signal.SIGCONT)
        assert program.finish().check() == "ready\ncleaned up\nbroken off\n"
