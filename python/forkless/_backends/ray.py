"""Ray: tasks are remote functions, replies arrive in futures of its object references."""

import contextlib
import logging
import socket
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import ray
from ray.experimental import internal_kv

from .blocks import Block
from .engine import Address, Demand, Lost, unreachable
from .wire import Message, run

__all__ = ["Ray"]

# How long a task that is broken off may take to end before its worker is killed, in seconds.
_GRACE = 0.5

_MOST_FUNCTIONS = 64

# How long a port may take to answer, in seconds.
_ANSWER = 15.0


# Where workers note which tasks they are killed for.
_NAMESPACE = "forkless"


def key_of(task: str) -> str:
    """Under which key."""
    return f"late-{task}"


def note_late() -> Callable[[], None]:
    """In a worker, called in a task: what is to be called before the worker is killed for its time limit."""
    key = key_of(ray.get_runtime_context().get_task_id())
    return lambda: internal_kv._internal_kv_put(key, b"late", namespace=_NAMESPACE)


class Handle:
    """A task that Ray has."""

    def __init__(self, reference: Any, future: "Future[Any]") -> None:
        self.reference, self.future = reference, future


class Ray:
    """An engine; see `engine.Engine`.

    Args:
        address: of a Ray Client server; without a host it is the Ray that the program is connected to, or
            that runs on this machine, or one that is started.
    """

    title = "Ray"
    unsupported: dict[str, str] = {}  # noqa: RUF012 - constant
    ahead = 3, 16

    arrived: Callable[[int], None]

    def __init__(self, address: Address) -> None:
        self._address = address
        self._client: Any = None  # the connection of Ray Client
        self._is_ours = False
        self._scratch: Any = None
        self._run: Any = None
        self._functions: dict[Any, Any] = {}
        self._broken: str | None = None
        # Tasks that were told to end, and when they are to have done so.
        self._ending: deque[tuple[float, Any]] = deque()

    def connect(self, timeout: float) -> None:
        """See `engine.Engine`."""
        if self._address.host:
            self._connect_client(timeout)
        elif not ray.is_initialized():
            self._start()
        with self._scope():
            # What died with its worker is for `retries` to try again, and for nobody else.
            self._run = ray.remote(max_retries=0)(run)

    def _connect_client(self, timeout: float) -> None:
        until = time.monotonic() + timeout
        try:
            # Where nobody listens, Ray itself would try for half a minute.
            where = self._address.host, self._address.port
            socket.create_connection(where, min(timeout, _ANSWER)).close()
            self._client = _connect(str(self._address), until)
        except (OSError, RuntimeError, ValueError) as error:
            raise self.unreachable(timeout, error) from error
        self._is_ours = True

    def _start(self) -> None:
        """Connects to the Ray of this machine, or starts one, which ends with this process."""
        with _quiet():
            with contextlib.suppress(ConnectionError):
                ray.init("auto", logging_level="ERROR")
                self._is_ours = True
                return
            from .scratch import Scratch

            self._scratch = Scratch("flray-")
            ray.init(
                "local",
                include_dashboard=False,
                logging_level="ERROR",
                _temp_dir=self._scratch.path,
            )
        self._is_ours = True

    def unreachable(self, timeout: float, cause: object = None) -> ConnectionError:
        """See `engine.Engine`."""
        advice = (
            f"is `ray start --head --ray-client-server-port={self._address.port}` running there, of the same "
            "version as here? If it asks for a token, set RAY_AUTH_MODE=token"
        )
        if not self._address.host:
            advice = "Ray did not start in that time: give it a longer connect_timeout"
        return unreachable(self._address, timeout, advice, cause)

    @contextlib.contextmanager
    def _scope(self) -> Iterator[None]:
        """In which calls of Ray are for this connection."""
        if self._client is None:
            yield
            return
        with self._client:
            yield

    def slots(self) -> int:
        """See `engine.Engine`."""
        with self._scope():
            return int(ray.cluster_resources().get("CPU", 1))

    def put(self, memory: Any) -> Any:
        """See `engine.Engine`."""
        with self._scope():
            return ray.put(memory)

    @property
    def can_keep(self) -> bool:
        """See `engine.Engine`.

        Only where it is us who disconnect: afterwards Ray may use the memory for what others put there.
        """
        return self._client is None and self._is_ours

    def keep(self, block: Block) -> tuple[memoryview, Any]:
        """See `engine.Engine`."""
        reference = ray.put(block)
        return ray.get(reference).view, reference

    def start(self, number: int, message: Message, memory: list[Any], demand: Demand) -> Any:
        """See `engine.Engine`."""
        with self._scope():
            reference = self._function(demand).remote(message, *memory)
            future: Future[Any] = reference.future()
        future.add_done_callback(lambda _: self.arrived(number))
        return Handle(reference, future)

    def _function(self, demand: Demand) -> Any:
        """The remote function with such options, which are the same for many tasks, and slow to make."""
        key = demand.name, *sorted(demand.resources.items())
        function = self._functions.get(key)
        if function is None:
            if len(self._functions) >= _MOST_FUNCTIONS:
                self._functions.clear()
            function = self._run.options(name=demand.name, **_needs(demand.resources))
            self._functions[key] = function
        return function

    def fetch(self, handles: Sequence[Any]) -> "list[Message | Lost]":
        """See `engine.Engine`."""
        return [self._fetch_one(handle.future) for handle in handles]

    def _fetch_one(self, future: "Future[Any]") -> "Message | Lost":
        error = future.exception()
        if error is None:
            reply: Message = future.result()
            return reply
        return self._explain(error)

    def _explain(self, error: BaseException) -> Lost:
        kinds = ray.exceptions
        first = str(error).strip().partition("\n")[0]
        if isinstance(error, kinds.OutOfMemoryError):
            return Lost("died", f"a Ray worker was killed for lack of memory ({first})", cause=error)
        if isinstance(error, (kinds.NodeDiedError, kinds.ObjectLostError)):
            return Lost("died", f"a node of Ray has died ({first})", cause=error)
        if isinstance(error, kinds.WorkerCrashedError):
            return Lost("died", "a Ray worker has died (Ray does not tell which one)", cause=error)
        if isinstance(error, ConnectionError):
            self._broken = str(error)
            return Lost("gone", self.complaint() or "", cause=error)
        return Lost("refused", f"{type(error).__name__}: {error}", cause=error)

    def cancel(self, handle: Any) -> None:
        """See `engine.Engine`."""
        with contextlib.suppress(Exception), self._scope():
            ray.cancel(handle.reference, force=False)
            self._ending.append((time.monotonic() + _GRACE, handle))

    def tend(self) -> None:
        """See `engine.Engine`."""
        while self._ending and self._ending[0][0] <= time.monotonic():
            _, handle = self._ending.popleft()
            # It has been told to end, and has not.
            if not handle.future.done():
                with contextlib.suppress(Exception), self._scope():
                    ray.cancel(handle.reference, force=True)

    def was_late(self, handle: Any) -> bool:
        """See `engine.Engine`."""
        with contextlib.suppress(Exception), self._scope():
            key = key_of(handle.reference.task_id().hex())
            return bool(internal_kv._internal_kv_del(key, namespace=_NAMESPACE))
        return False

    def is_running(self, handle: Any) -> bool:
        """See `engine.Engine`."""
        return False  # It can be broken off.

    def complaint(self) -> str | None:
        """See `engine.Engine`."""
        if self._broken is None and self._is_connected():
            return None
        return (
            f"the connection to {self._address} is lost: Ray has ended there, or cannot be reached any more. "
            "What was not done is lost; make another executor when it is back"
        )

    def _is_connected(self) -> bool:
        if self._client is None:
            return bool(ray.is_initialized())
        with self._scope():
            return bool(ray.util.client.ray.is_connected())

    def close(self) -> None:
        """See `engine.Engine`."""
        while self._ending and self.complaint() is None:
            time.sleep(max(0.0, self._ending[0][0] - time.monotonic()))
            self.tend()
        if self._client is not None:
            self._client.disconnect()
        elif self._is_ours:
            ray.shutdown()
        if self._scratch is not None:
            self._scratch.remove()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without Ray's warning that it has not set a handler for SIGTERM: nobody has asked for one."""
    logger = logging.getLogger("ray._private.worker")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _connect(address: str, until: float) -> Any:
    """A connection of Ray Client.

    Ray starts a server for each, by a fork of a process with threads, which does not always end well: then it
    gives up after half a minute, and the next try is another one.
    """
    while True:
        try:
            with _quiet(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return ray.init(address, allow_multiple=True, logging_level="ERROR")
        except ConnectionAbortedError:
            if time.monotonic() >= until:
                raise


def _needs(resources: dict[str, float]) -> dict[str, Any]:
    """As Ray names what a task needs."""
    others = dict(resources)
    needs: dict[str, Any] = {}
    for name, theirs in (("CPU", "num_cpus"), ("GPU", "num_gpus"), ("memory", "memory")):
        if name in others:
            amount = others.pop(name)
            needs[theirs] = int(amount) if name == "memory" else amount
    return {**needs, "resources": others} if others else needs
