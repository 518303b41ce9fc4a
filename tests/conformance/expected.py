"""What is not run, and what is known to differ: each with its reason.

What is not run is about the insides of the standard library. What differs on purpose is run, and counts as
failed. `judge` reports a test that passes although it is listed.
"""

from __future__ import annotations

import sys
from typing import NamedTuple, TypeVar

T = TypeVar("T")

METHODS = ("forkserver", "spawn")

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
            "WithThreadsTestProcess",
            "WithThreadsTestQueue",
            "WithThreadsTestLock",
            "WithThreadsTestSemaphore",
            "WithThreadsTestCondition",
            "WithThreadsTestEvent",
            "WithThreadsTestBarrier",
            "WithThreadsTestPool",
            "WithThreadsTestManagerRestart",
            "WithThreadsTestConnection",
            "WithThreadsTestListenerClient",
            "WithThreadsTestPoll",
            "WithProcessesTestFinalize",
            "WithProcessesTestLogging",
            "TestForkAwareThreadLock",
            "TestFlags",
            "TestNamedResource",
            "TestNoForkBomb",
            "MiscTestCase",
            "_TestImportStar",
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


# Classes that are not run at all.
INTERNAL_CASES: dict[str, str] = {
    "TestInternalDecorators": "a decorator of the tests themselves",
    "TestPoolNotLeakOnFailure": "a pool over processes that are mocks",
    "TestResourceTracker": "the resource tracker, which has nothing to track here",
    "SemLockTests": "_multiprocessing.SemLock",
}

# --- tests ---------------------------------------------------------------------------------------------


def _of_both(reasons: dict[str, T]) -> dict[str, T]:
    """The same for the executors of both start methods."""
    return {f"ProcessPool{m.capitalize()}{test}": why for m in METHODS for test, why in reasons.items()}


_STATE = "sets the private state of a pool"
_TRACKER = "what the resource tracker says; there is none here"

# Tests that are not run, as they are about the insides of the standard library.
INTERNALS: dict[str, str] = {
    "TestSimpleQueue.test_closed": "private attributes, as it says itself",
    "WithProcessesTestHeap.test_heap": "the accounts of the heap, which has none here",
    "WithProcessesTestPool.test_resource_warning": _STATE,
    "WithThreadsTestPool.test_resource_warning": _STATE,
    "WithProcessesTestSharedMemory.test_shared_memory_cleaned_after_process_termination": _TRACKER,
    "WithProcessesTestSharedMemory.test_shared_memory_tracking": _TRACKER,
    "WithProcessesTestSharedMemory.test_shared_memory_name_with_embedded_null": "sets the private name",
    "MiscTestCase.test_spawn_sys_executable_none_allows_import": "wants multiprocessing not to be loaded, "
    "and an installation is just that",
    "TestFlags.test_flags": "runs Python without site-packages, where nothing is installed",
    **_of_both(
        {"ProcessPoolExecutorTest.test_python_finalization_error": "what its own thread makes of a mock"}
    ),
}
if sys.version_info < (3, 13):
    INTERNALS["WithThreadsTestPool.test_terminate"] = (
        "wrong before Python 3.13: it waits for whichever of its tasks of five minutes have begun"
    )


class Known(NamedTuple):
    """A failure that is known.

    Attributes:
        why: The reason.
        sometimes: Whether it may also pass.
        hangs: Whether it fails by its time limit, so that it is run on request only.
    """

    why: str
    sometimes: bool = False
    hangs: bool = False


_PUT_RAISES = Known("put raises pickling errors itself, there is no feeder thread")
_NOT_BROKEN = Known("only the task fails, with what has gone wrong, and the others go on")

# Tests that fail, because forkless differs on purpose.
DIFFERENT: dict[str, Known] = {
    "TestNoForkBomb.test_noforkbomb": Known("a program without a guard for __main__ works"),
    "TestStartMethod.test_mixed_startmethod": Known("an object belongs to no context"),
    "WithProcessesTestProcess.test_parent_process": Known(
        "a grandchild ends with its parent, and so cannot tell of it", sometimes=True, hangs=True
    ),
    "WithProcessesTestQueue.test_queue_feeder_donot_stop_onexc": _PUT_RAISES,
    "WithProcessesTestQueue.test_queue_feeder_on_queue_feeder_error": _PUT_RAISES,
    "WithProcessesTestPoolWorkerErrors.test_unpickleable_result": Known(
        "a lambda travels by value, as a result too"
    ),
    **_of_both(
        {
            "ProcessPoolExecutorTest.test_killed_child": _NOT_BROKEN,
        }
    ),
    "ProcessPoolForkserverProcessPoolExecutorTest.test_max_tasks_per_child_defaults_to_spawn_context": Known(
        "the start method stays what it is"
    ),
}

# --- time ----------------------------------------------------------------------------------------------

# What is run only on request, under these start methods: tests, and whole cases.
SLOW: dict[str, tuple[str, ...]] = {
    # 200 children, each of which imports the tests; CPython has its forkserver preload them.
    "WithProcessesTestProcess.test_many_processes": ("forkserver",),
    # Nothing in them depends on how a process starts.
    **dict.fromkeys(
        (
            "WithProcessesTestFinalize",
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
            *(case for case in RUN if case.startswith("WithThreads")),
            *(case for case, module in RUN.items() if module == "futures"),
        ),
        ("spawn",),
    ),
    # Nothing in them depends on forkless but for their start and end.
    **dict.fromkeys(("WithThreadsTestPool", "WithThreadsTestBarrier", "WithThreadsTestCondition"), METHODS),
    # Sleeps.
    "ProcessPoolForkserverWaitTest": METHODS,
    "ProcessPoolForkserverAsCompletedTest": METHODS,
    "ProcessPoolForkserverExecutorDeadlockTest": METHODS,
}


def is_slow(test: str, method: str) -> bool:
    """Whether a test or a whole case is run only on request."""
    known = DIFFERENT.get(test)
    return method in SLOW.get(test, ()) or (known is not None and known.hangs)
