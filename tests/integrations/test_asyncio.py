"""asyncio, with the loop of the standard library and with uvloop: executors, and `forkless.aio`."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any

import forkless
import pytest
from forkless import aio
from libraries import needs


@pytest.fixture(scope="module", autouse=True)
def libuv_has_started() -> None:
    """Has libuv open the pipe that it keeps for the whole life of a process, before anybody counts."""
    needs("uvloop").new_event_loop().close()


def run_with_uvloop(main: Coroutine[Any, Any, Any]) -> Any:
    loop = needs("uvloop").new_event_loop()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    return asyncio.run if request.param == "asyncio" else run_with_uvloop


def whereabouts(number: int) -> tuple[int, int, str]:
    return number, os.getpid(), forkless.current_process().name


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_run_in_executor(run: Any) -> None:
    async def main() -> list[tuple[int, int, str]]:
        loop = asyncio.get_running_loop()
        with forkless.Executor(2) as executor:
            return await asyncio.gather(*(loop.run_in_executor(executor, whereabouts, n) for n in range(20)))

    found = run(main())
    assert [number for number, _, _ in found] == list(range(20))
    assert os.getpid() not in {pid for _, pid, _ in found}
    assert all(name.startswith("ExecutorWorker-") for _, _, name in found)


def test_the_loop_goes_on_while_a_task_runs(run: Any) -> None:
    async def main() -> str:
        event = forkless.Event()
        with forkless.Executor(1) as executor:
            future = asyncio.get_running_loop().run_in_executor(executor, event.wait, 60)
            for _ in range(10):
                await asyncio.sleep(0)
            event.set()
            return str(await future)

    assert run(main()) == "True"


def test_what_wait_for_gives_up_frees_its_worker(run: Any) -> None:
    async def main() -> int:
        loop, event = asyncio.get_running_loop(), forkless.Event()
        with forkless.Executor(1) as executor:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(loop.run_in_executor(executor, event.wait), 0.2)
            return await loop.run_in_executor(executor, abs, -1)

    assert run(main()) == 1


def test_errors_arrive(run: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with forkless.Executor(1) as executor:
            with pytest.raises(ZeroDivisionError):
                await loop.run_in_executor(executor, divmod, 1, 0)
            with pytest.raises(forkless.WorkerDied, match="was killed by SIGKILL while it ran"):
                await loop.run_in_executor(executor, die)
            assert await loop.run_in_executor(executor, abs, -1) == 1

    run(main())


def test_a_pool_for_the_loop(run: Any) -> None:
    async def main() -> list[int]:
        async with aio.Pool(2) as pool:
            found = await asyncio.gather(*(pool.run(pow, n, 2) for n in range(10)))
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(pool.run(forkless.Event().wait), 0.2)
            with pytest.raises(forkless.WorkerDied, match="SIGKILL"):
                await pool.run(die)
            return [*found, await pool.run(abs, -1)]

    assert run(main()) == [*(n * n for n in range(10)), 1]
