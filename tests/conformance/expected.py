"""What is not run, and what is known to differ: each with its reason.

The reasons come in four groups: internals of multiprocessing, what is not there yet (with the number of the
issue), what differs on purpose, and tests that start programs of their own and so do not test forkless.
`judge` reports a test that passes although it is listed, `tests/test_conformance.py` a missing name that is
there.
"""

from __future__ import annotations

METHODS = ("forkserver", "spawn")

# --- names ---------------------------------------------------------------------------------------------

NOT_THERE = "not there: "  # how the reason of a test begins that was skipped for want of a name

# What forkless does not have yet. A test that uses it is skipped.
NAMES: dict[str, str] = {}

# --- test cases -----------------------------------------------------------------------------------------

# The classes that are run, and where they are. Not every Python has all of them.
RUN: dict[str, str] = {
    **dict.fromkeys(
        (
            "WithProcessesTestProcess",
            "WithProcessesTestSubclassingProcess",
            "WithProcessesTestPollEintr",
            "WithProcessesTestAtExit",
            "TestStdinBadfiledescriptor",
            "TestStartMethod",
            "TestWait",
            "WithProcessesTestLock",
            "WithProcessesTestSemaphore",
            "WithProcessesTestCondition",
            "WithProcessesTestEvent",
            "WithProcessesTestBarrier",
            "WithProcessesTestValue",
            "WithProcessesTestArray",
            "WithProcessesTestSharedCTypes",
            "WithProcessesTestHeap",
            "WithProcessesTestSharedMemory",
            "WithProcessesTestQueue",
            "TestSimpleQueue",
            "WithProcessesTestPool",
            "WithProcessesTestPoolWorkerErrors",
            "WithProcessesTestPoolWorkerLifetime",
            "WithProcessesTestConnection",
            "WithProcessesTestListener",
            "WithProcessesTestListenerClient",
            "WithProcessesTestPicklingConnections",
            "WithProcessesTestPoll",
            "ChallengeResponseTest",
            "OtherTest",
            "TestCloseFds",
            "TestIgnoreEINTR",
            "TestInvalidFamily",
            "TestInvalidHandle",
            "TestTimeouts",
            "WithProcessesTestManagerRestart",
            "TestInitializers",
            "TestManagerExceptions",
            "TestSyncManagerTypes",
            "WithManagerTestMyManager",
            "WithManagerTestRemoteManager",
            "WithManagerTestManagerRestart",
            "WithManagerTestLock",
            "WithManagerTestSemaphore",
            "WithManagerTestCondition",
            "WithManagerTestEvent",
            "WithManagerTestBarrier",
            "WithManagerTestQueue",
            "WithManagerTestContainers",
            "WithManagerTestPool",
            "WithProcessesTestFinalize",
            "WithProcessesTestLogging",
            "TestForkAwareThreadLock",
        ),
        "suite",
    ),
    **dict.fromkeys(
        (
            f"ProcessPool{method}{name}Test"
            for method in ("Forkserver", "Spawn")
            for name in (
                "Initializer",
                "FailingInitializer",
                "ProcessPoolExecutor",
                "ProcessPoolShutdown",
                "ExecutorDeadlock",
                "AsCompleted",
                "Wait",
            )
        ),
        "futures",
    ),
}


def methods_of(case: str) -> tuple[str, ...]:
    """The start methods a test case is for: all, unless it has one in its name."""
    return tuple(m for m in METHODS if f"ProcessPool{m.capitalize()}" in case) or METHODS


_INTERNALS = "internals of multiprocessing"
_NAMES_OF_FILES = f"{_INTERNALS}: how it names its files"
_PROGRAM = "does not test forkless: starts a program that imports multiprocessing"

# Classes that need one name, which forkless does not have yet.
WAITING: dict[str, str] = {}

# Classes that are not run at all.
LEFT_OUT: dict[str, str] = {
    "TestInternalDecorators": f"{_INTERNALS}: a decorator of the tests themselves",
    "TestPoolNotLeakOnFailure": f"{_INTERNALS}: a pool over processes that are mocks",
    "TestResourceTracker": f"{_INTERNALS}: there is no resource tracker",
    "SemLockTests": f"{_INTERNALS}: _multiprocessing.SemLock",
    "MiscTestCase": "not there yet (issue 9): __all__ of the whole package",
    "_TestImportStar": "not there yet (issue 9): __all__ of each module",
    "TestFlags": _PROGRAM,
    "TestNamedResource": _PROGRAM,
    "TestNoForkBomb": _PROGRAM,
}
# Threads are those of multiprocessing.dummy, and so of the standard library.
LEFT_OUT_BY_PREFIX: dict[str, str] = {
    "WithThreads": "not there yet (issue 9): multiprocessing.dummy",
}

# --- tests ---------------------------------------------------------------------------------------------


def _of_both(reasons: dict[str, str]) -> dict[str, str]:
    """The same for the executors of both start methods."""
    return {f"ProcessPool{m.capitalize()}{test}": why for m in METHODS for test, why in reasons.items()}


# Tests that are not run.
NOT_RUN: dict[str, str] = {
    "TestStartMethod.test_preload_resources": _PROGRAM,
    # It would fail after five minutes.
    "WithProcessesTestProcess"
    ".test_parent_process": "differs on purpose: a grandchild ends with its parent, and so cannot tell of it",
    "WithProcessesTestPoolWorkerLifetime"
    ".test_worker_finalization_via_atexit_handler_of_multiprocessing": _PROGRAM,
    "WithProcessesTestHeap.test_heap": f"{_INTERNALS}: the accounts of the heap, which has none here",
    "WithProcessesTestQueue.test_no_import_lock_contention": _PROGRAM,
    **dict.fromkeys(
        (
            "WithProcessesTestSharedMemory.test_shared_memory_cleaned_after_process_termination",
            "WithProcessesTestSharedMemory.test_shared_memory_SharedMemoryManager_reuses_resource_tracker",
            "WithProcessesTestSharedMemory.test_shared_memory_tracking",
            "WithProcessesTestSharedMemory.test_shared_memory_untracking",
        ),
        _PROGRAM,
    ),
    **_of_both(
        {
            "ProcessPoolShutdownTest.test_interpreter_shutdown": _PROGRAM,
            "ProcessPoolShutdownTest.test_submit_after_interpreter_shutdown": _PROGRAM,
        }
    ),
}

_PUT_RAISES = "differs on purpose: put raises pickling errors itself, there is no feeder thread"
_CLOSED_QUEUE = (
    "differs on purpose: a closed queue still says whether it is empty; it has no reading end to close"
)
_NO_FORK = "differs on purpose: there is no start method 'fork'"
_BY_VALUE = "differs on purpose: a lambda travels by value, as a result too"
_NOT_BROKEN = "differs on purpose: only the task fails, the others go on"

# Tests that fail.
DIFFERENT: dict[str, str] = {
    "TestSimpleQueue.test_closed": f"{_INTERNALS}: SimpleQueue._reader",
    "WithProcessesTestQueue.test_closed_queue_empty_exceptions": _CLOSED_QUEUE,
    "WithManagerTestQueue.test_closed_queue_empty_exceptions": _CLOSED_QUEUE,
    "WithProcessesTestSharedMemory.test_shared_memory_basics": _NAMES_OF_FILES,
    "WithProcessesTestSharedMemory.test_shared_memory_name_with_embedded_null": _NAMES_OF_FILES,
    "WithProcessesTestSharedMemory.test_shared_memory_recreate": _NAMES_OF_FILES,
    "TestStartMethod.test_get_all": _NO_FORK,
    "TestStartMethod.test_mixed_startmethod": _NO_FORK,
    "WithProcessesTestQueue.test_queue_feeder_donot_stop_onexc": _PUT_RAISES,
    "WithProcessesTestQueue.test_queue_feeder_on_queue_feeder_error": _PUT_RAISES,
    "WithProcessesTestPool.test_resource_warning": f"{_INTERNALS}: sets Pool._state",
    "WithProcessesTestPoolWorkerErrors.test_unpickleable_result": _BY_VALUE,
    **_of_both(
        {
            "ExecutorDeadlockTest.test_error_at_task_unpickle": _NOT_BROKEN,
            "ExecutorDeadlockTest.test_error_during_result_unpickle_in_result_handler": _NOT_BROKEN,
            "ExecutorDeadlockTest.test_exit_at_task_unpickle": _NOT_BROKEN,
            "ExecutorDeadlockTest.test_exit_during_result_unpickle_in_result_handler": _NOT_BROKEN,
            "FailingInitializerTest.test_initializer": "differs on purpose: what an initializer raises "
            "is in the error of every task, with its traceback, so workers do not log it",
            "ProcessPoolExecutorTest.test_killed_child": _NOT_BROKEN,
            "ProcessPoolExecutorTest.test_traceback": "differs on purpose: the worker's frames are shown by "
            "the exception's own traceback, which assertRaises takes away",
            "ProcessPoolExecutorTest.test_python_finalization_error": f"{_INTERNALS}: its second thread",
        }
    ),
    "ProcessPoolForkserver"
    "ProcessPoolExecutorTest.test_max_tasks_per_child_defaults_to_spawn_context": _NO_FORK,
}

# --- time ----------------------------------------------------------------------------------------------

# What is run only on request, under these start methods: tests, and whole cases.
SLOW: dict[str, tuple[str, ...]] = {
    # 200 children, each of which imports the tests; CPython has its forkserver preload them.
    "WithProcessesTestProcess.test_many_processes": ("forkserver",),
    # Nothing in them depends on how a process starts.
    **dict.fromkeys(
        (
            "WithProcessesTestPollEintr",
            "TestWait",
            "WithProcessesTestSemaphore",
            "WithProcessesTestCondition",
            "WithProcessesTestBarrier",
            "WithProcessesTestPool",
            "WithProcessesTestPoolWorkerLifetime",
            "WithManagerTestSemaphore",
            "WithManagerTestCondition",
            "WithManagerTestBarrier",
            "WithManagerTestPool",
            *(case for case, module in RUN.items() if module == "futures"),
        ),
        ("spawn",),
    ),
    # Sleeps.
    "ProcessPoolForkserverWaitTest": METHODS,
    "ProcessPoolForkserverAsCompletedTest": METHODS,
    "ProcessPoolForkserverExecutorDeadlockTest": METHODS,
}
