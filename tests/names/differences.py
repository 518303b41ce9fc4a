"""What is not as in `multiprocessing`: each difference and its reason, once.

`DIFFERS` has names that are there and do something else; `calls` says that they cannot be called in all the
ways that the standard library's can. A member of a class is "Class.member"; "Class.*" stands for all that
are not listed themselves. `NOT_THERE` has names that are missing. What forkless has beside these is found by
the program, and so are names that only some versions of Python have.
"""

from __future__ import annotations

from typing import NamedTuple


class Difference(NamedTuple):
    """How something differs, in words, and why."""

    what: str
    why: str
    calls: bool = False


INTERNAL = "internal: it works for the standard library's own objects"

_DEATH = "nobody waits for the dead"
_NO_FORK = "a fork copies locks in whatever state they are"
_NOT_INHERITED = "the class is that of the core"
_MADE_BY_POOL = "made by a pool only"

_process = Difference(
    "`__main__` never runs in a child, and lambdas, closures and what `__main__` defines can be sent; a "
    "daemon may have children; a child ends with its parent",
    "no guard is needed, and nothing is left behind",
)
_pool = Difference(
    "the death of a worker fails its task only, with `WorkerDied`; `imap` reads its input as results are "
    "taken; what is not done at `terminate` fails; it can be sent to other processes; methods that "
    "subclasses override, like `Process`, are not called",
    _DEATH,
)
_queue = Difference(
    "an item is in shared memory when `put` returns; errors of pickling are raised by `put`; no `_reader` "
    "and `_writer` with a descriptor; it can be sent at any time",
    "there is no feeder thread that could lose items or keep a process from ending",
)
_lock = Difference(
    "the death of the owner raises `OwnerDied`, once, where another one waits; it can be sent at any "
    "time; no subclasses",
    _DEATH,
)
_semaphore = Difference(
    "what a process took by `with` is given back when it dies; it can be sent at any time", _DEATH
)
_condition = Difference(
    "the death of the lock's owner raises `OwnerDied`; a notification that a dead process got goes to the "
    "next one; no subclasses",
    _DEATH,
)
_event = Difference("it can be sent at any time; no subclasses", _NOT_INHERITED)
_barrier = Difference("it breaks when a process that waits dies; no subclasses", _DEATH)
_value = Difference("the death of the lock's owner raises `OwnerDied`; it can be sent at any time", _DEATH)
_raw = Difference("it can be sent at any time, with plain `pickle` too", "it belongs to no context")
_manager = Difference(
    "the death of the server raises `ManagerDied`, that of a client drops what it held; what a method raises "
    "arrives as itself; it ends after the program's other processes",
    _DEATH,
)
_proxy = Difference(
    "it can be sent in any way; locks of dead clients raise `OwnerDied` once", "the server knows its clients"
)
_cpu_count = Difference(
    "the CPUs that this process may use: affinity and quotas count; in a worker, its share",
    "more processes than CPUs only take turns",
)
_get_context = Difference(
    '`"fork"` is a ValueError that says what to use; under `install` it is "forkserver", with a warning',
    _NO_FORK,
)
_set_start_method = Difference(
    '`"fork"` as for `get_context`; it may be called any number of times',
    "objects belong to no start method, so nothing depends on what was chosen before",
)
_get_start_method = Difference('the default is `"forkserver"` on every version', _NO_FORK)
_all_methods = Difference('there is no `"fork"`', _NO_FORK)
_freeze_support = Difference("it does nothing", "children never run the program's `__main__`")
_preload = Difference(
    "what cannot be imported, or leaves threads behind, is told; `__main__` is left out; it may be called "
    "again",
    "silence there costs each child the import, and threads do not survive a fork",
)
_timeout_error = Difference("it is a built-in `TimeoutError` as well", "one `except` is enough")
_logger = Difference(
    "the parent also says when a child has started and how it has ended; pools say less of their threads",
    "so the log tells which process died, and of what",
)
_reducer = Difference(
    "to set another one is a warning, and changes nothing",
    "picklers of forkless are made in C; use `register`",
)
_fork_class = Difference("only under `install` can a process be made, which nothing forks", _NO_FORK)
_pipe = Difference(
    "everything that blocks takes a `timeout`; a message broken off in its middle closes the connection",
    "the other end could not tell the next message from the rest of this one",
)
_after_fork = Difference(
    "children have no copies of the parent's objects: it is called for what preloaded modules made, and in "
    "copies made by `os.fork`",
    "nothing forks the user's process",
)
_nothing = Difference("it does nothing", "there is no such helper process or thread")
_start_server = Difference("it starts the template", "that is what children are forked from here")
_result = Difference(
    "`get` in a callback returns what the callback was given; nobody but its pool can make one",
    _MADE_BY_POOL,
    calls=True,
)

_OBJECTS = {
    "Array": _value,
    "Barrier": _barrier,
    "BoundedSemaphore": _semaphore,
    "Condition": _condition,
    "Event": _event,
    "JoinableQueue": Difference(
        f"{_queue.what}; `join` raises `WorkerDied` for items that died with who had taken them", _DEATH
    ),
    "Lock": _lock,
    "Manager": _manager,
    "Pipe": _pipe,
    "Pool": _pool,
    "Process": _process,
    "Queue": _queue,
    "RLock": _lock,
    "RawArray": _raw,
    "RawValue": _raw,
    "Semaphore": _semaphore,
    "SimpleQueue": _queue,
    "TimeoutError": _timeout_error,
    "Value": _value,
    "cpu_count": _cpu_count,
    "freeze_support": _freeze_support,
    "get_all_start_methods": _all_methods,
    "get_context": _get_context,
    "get_logger": _logger,
    "get_start_method": _get_start_method,
    "log_to_stderr": _logger,
    "reducer": _reducer,
    "set_forkserver_preload": _preload,
    "set_start_method": _set_start_method,
}
_CONTEXT = Difference(
    "what it makes belongs to no context; as the package for each name", "see the table of the package"
)
_POPEN = Difference(
    "it is a view of a process that was started, and starts none itself", "the core starts processes"
)
_PROXIES = (
    "AcquirerProxy ArrayProxy AutoProxy BarrierProxy BaseListProxy BasePoolProxy BaseProxy ConditionProxy "
    "DictProxy EventProxy IteratorProxy ListProxy NamespaceProxy PoolProxy ValueProxy"
).split()
_SERVER = Difference(
    "it speaks a protocol of its own, and its methods take other arguments: clients are of forkless too",
    "it knows its clients, and notices when one dies",
    calls=True,
)

DIFFERS: dict[str, dict[str, Difference]] = {
    "multiprocessing": _OBJECTS,
    "multiprocessing.connection": {
        "BUFSIZE": Difference("nothing uses it", "what is read at once depends on the message"),
        "CONNECTION_TIMEOUT": Difference("nothing uses it", "`Client` takes a `timeout`"),
        "Client": Difference(
            "a `timeout`; 60 seconds for the handshake with another machine; digests as in Python 3.12 on "
            "every version",
            "a peer that says nothing does not hold up the program",
        ),
        "Connection": _pipe,
        "Listener": Difference(
            "a peer that fails or stalls the handshake is dropped, and `accept` goes on; addresses made "
            "up are abstract, and for processes of this user only",
            "one bad client must not end a server",
        ),
        "MESSAGE_LENGTH": Difference("40 on every version", "the handshake is that of Python 3.12"),
        "Pipe": _pipe,
    },
    "multiprocessing.context": {
        "BaseContext": _CONTEXT,
        "DefaultContext": Difference(
            "it is made without another context", "the start method is a name, not an object", calls=True
        ),
        "ForkContext": _fork_class,
        "ForkProcess": _fork_class,
        "ForkServerContext": _CONTEXT,
        "ForkServerProcess": _process,
        "Process": _process,
        "SpawnContext": _CONTEXT,
        "SpawnProcess": _process,
        "TimeoutError": _timeout_error,
        "assert_spawning": Difference("it does nothing", "objects can be pickled at any time"),
        "get_spawning_popen": Difference(
            "while a process is pickled it is an object of no use", "the core starts processes"
        ),
    },
    "multiprocessing.dummy": {
        **dict.fromkeys(
            ("DummyProcess", "Process"),
            Difference(
                "`exitcode` is 1 if the target raised, or what SystemExit says; any thread may start one; "
                "it has a `pid`, and takes `daemon`",
                "0 for a target that failed hides the failure",
            ),
        ),
        "Pool": Difference(
            "see `ThreadPool` of `multiprocessing.pool`", "a task that calls `sys.exit` would never be done"
        ),
        "active_children": Difference("it works in any thread", "there it fails in threads of `threading`"),
    },
    "multiprocessing.forkserver": {
        "ForkServer": Difference("it stands for the template", "that is what children are forked from here"),
        "ensure_running": _start_server,
        "set_forkserver_preload": _preload,
    },
    "multiprocessing.heap": {
        "BufferWrapper": Difference(
            "each block is memory of its own in the arena, freed with the last process that has it",
            "there is no heap, and no lock of one",
        )
    },
    "multiprocessing.managers": {
        "BaseManager": _manager,
        "MakeProxyType": Difference(
            "it takes no `_cache`", "classes of proxies are found by name and module", calls=True
        ),
        "RemoteError": Difference(
            "it is raised only in place of an exception that cannot be rebuilt",
            "what a method raises arrives as itself",
        ),
        "Server": Difference(_SERVER.what, _SERVER.why),
        "Server.*": _SERVER,
        "SharedMemoryManager": Difference(
            f"{_manager.what}; segments that it makes are gone with it, also when it is killed", _DEATH
        ),
        "SharedMemoryServer": Difference(_SERVER.what, _SERVER.why),
        "SharedMemoryServer.*": _SERVER,
        "SyncManager": _manager,
        **dict.fromkeys(_PROXIES, _proxy),
    },
    "multiprocessing.pool": {
        "ApplyResult": _result,
        "AsyncResult": _result,
        "IMapIterator": Difference(
            "it reads the input as results are taken; what a task raises as StopIteration is a RuntimeError",
            "an input without end must not fill the memory",
            calls=True,
        ),
        "IMapUnorderedIterator": Difference(
            "it reads the input as results are taken; what a task raises as StopIteration is a RuntimeError",
            "an input without end must not fill the memory",
            calls=True,
        ),
        "MapResult": _result,
        "Pool": _pool,
        "RemoteTraceback": Difference(
            "its text is short: the worker's frames are part of the exception's own traceback",
            "debuggers and test runners show these",
        ),
        "ThreadPool": Difference(
            "a task that raises SystemExit fails; what the initializer raises breaks the pool; `imap` "
            "reads its input as results are taken; `terminate` fails what is not done",
            "each of these hangs there, or takes memory without end",
        ),
        "TimeoutError": _timeout_error,
    },
    "multiprocessing.popen_fork": {"Popen": Difference("making one is a ValueError", _NO_FORK)},
    "multiprocessing.popen_forkserver": {
        "Popen": _POPEN,
        "Popen.DupFd": Difference(
            "that of `reduction`", "a descriptor is sent the same way everywhere", True
        ),
    },
    "multiprocessing.popen_spawn_posix": {
        "Popen": _POPEN,
        "Popen.DupFd": Difference("that of `reduction`", "a descriptor is sent the same way everywhere"),
    },
    "multiprocessing.process": {"BaseProcess": _process},
    "multiprocessing.queues": {
        "JoinableQueue": _OBJECTS["JoinableQueue"],
        "Queue": _queue,
        "SimpleQueue": _queue,
    },
    "multiprocessing.reduction": {
        "AbstractReducer": Difference("a context takes no other reducer", _reducer.why),
        "AbstractReducer.*": Difference(
            "it can be called on an object too", "there, that is a mistake", True
        ),
        "DupFd": Difference(
            "it can be sent at any time, any number of times", "the template keeps the descriptor"
        ),
        "ForkingPickler": Difference(
            "it always pickles as forkless does, with protocol 5", "what is registered holds everywhere"
        ),
    },
    "multiprocessing.resource_sharer": {
        "DupFd": Difference(
            "it can be sent at any time, any number of times", "the template keeps the descriptor"
        ),
        "stop": _nothing,
    },
    "multiprocessing.resource_tracker": {
        "ReentrantCallError": Difference("it is never raised", "there is no tracker"),
        "ResourceTracker": Difference("it tracks nothing", "there is nothing that could be left behind"),
        "ensure_running": _nothing,
        "getfd": Difference("it raises `ProcessError`", "there is no tracker"),
        "register": Difference("what is registered is not removed", "there is no tracker"),
        "unregister": _nothing,
    },
    "multiprocessing.shared_memory": {
        "ShareableList": Difference("see `SharedMemory`", "it lies in one"),
        "SharedMemory": Difference(
            "it has a name in `/dev/shm` only with `public=True`; it is freed with the last process that "
            "has it, also when processes are killed; it grows no larger than there is memory",
            "names are what is left behind, and what a tracker removes too early",
        ),
    },
    "multiprocessing.sharedctypes": {
        "Array": _value,
        "RawArray": _raw,
        "RawValue": _raw,
        "Synchronized": _value,
        "SynchronizedArray": _value,
        "SynchronizedBase": _value,
        "SynchronizedString": _value,
        "Value": _value,
    },
    "multiprocessing.spawn": {
        "freeze_support": _freeze_support,
        "is_forking": Difference("it knows children of the standard library only", "ours have no such mark"),
    },
    "multiprocessing.synchronize": {
        "Barrier": _barrier,
        "BoundedSemaphore": _semaphore,
        "Condition": _condition,
        "Event": _event,
        "Lock": _lock,
        "RLock": _lock,
        "SemLock": Difference(
            "it is for `isinstance` only, and cannot be made",
            "there is no such semaphore behind it",
            calls=True,
        ),
        "Semaphore": _semaphore,
    },
    "multiprocessing.util": {
        "Finalize": Difference(
            "it is not passed on: each process runs what it made itself", "a child has no copies of objects"
        ),
        "ForkAwareLocal": _after_fork,
        "ForkAwareThreadLock": _after_fork,
        "get_logger": _logger,
        "log_to_stderr": _logger,
        "register_after_fork": _after_fork,
    },
}

_PROTOCOL_OF_SERVERS = "the protocol between servers and clients is another one"

NOT_THERE: dict[str, dict[str, str]] = {
    "multiprocessing.forkserver": {
        "ForkServer.connect_to_new_process": "the template takes requests on a socket of its own",
        "ForkServer.get_inherited_fds": "children inherit no descriptors by number",
    },
    "multiprocessing.managers": {
        f"{kind}.{name}": _PROTOCOL_OF_SERVERS
        for kind in ("Server", "SharedMemoryServer")
        for name in (
            "accept_connection accepter fallback_getvalue fallback_mapping fallback_repr fallback_str "
            "handle_request serve_client"
        ).split()
    },
}
