"""`Executor("dask://...")` and `Executor("dask")`: what is particular to Dask, and what goes wrong."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from clusters import AT_EXIT, HEAD, IN_MID_FLIGHT, Cluster, dask_cluster, free_port, leaves_nothing
from libraries import needs
from support import Program, run_program

needs("distributed")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with dask_cluster() as made:
        yield made


def run(source: str, *arguments: str, cluster: Cluster | None = None) -> list[str]:
    """The lines that a program prints."""
    environ = {} if cluster is None else cluster.environ
    return run_program(HEAD + source, *arguments, environ=environ).check().splitlines()


def test_a_killed_worker_fails_its_task_and_is_named(cluster: Cluster) -> None:
    source = """
with mp.Executor(sys.argv[1]) as executor:
    other = executor.submit(time.sleep, 0.5)
    error = executor.submit(lambda: os.kill(os.getpid(), signal.SIGKILL)).exception(60)
    print(type(error).__name__, error.worker.startswith("tcp://127.0.0.1:"), error.worker in str(error))
    print(type(error.__cause__).__name__, type(other.exception(60)) in (type(None), mp.WorkerDied))
    print(executor.submit(abs, -1).result(60))
    retry = mp.Retry(1, delay=0.01, on=mp.WorkerDied)
    error = executor.options(retries=retry).submit(os._exit, 1).exception(60)
    print(type(error).__name__, executor.statistics().retried)
"""
    assert run(source, cluster.address, cluster=cluster) == [
        "WorkerDied True True",
        "KilledWorker True",
        "1",
        "WorkerDied 1",
    ]


def test_what_dask_cannot_do_is_said(cluster: Cluster, tmp_path: Path) -> None:
    source = """
with mp.Executor(sys.argv[1]) as executor:
    try:
        executor.options(timeout=3)
    except NotImplementedError as error:
        print(error)
    running = executor.submit(wait_for, sys.argv[2])
    while not executor._scheduler.engine.is_running(running._work[1].handle):
        time.sleep(0.01)
    told = running.cancel(), running.running()
    open(sys.argv[2], "w").close()
    print(*told, running.result(60))
"""
    lines = run(source, cluster.address, str(tmp_path / "go"), cluster=cluster)
    assert lines[0].startswith("Dask has no 'timeout' for tasks: its tasks run in threads")
    assert lines[1:] == ["False True None"]


def test_what_has_not_begun_is_cancelled(cluster: Cluster, tmp_path: Path) -> None:
    source = """
with mp.Executor(sys.argv[1]) as executor:
    busy = [executor.submit(wait_for, sys.argv[2]) for _ in range(2)]
    waiting = [executor.submit(time.sleep, 3600) for _ in range(60)]
    print({future.cancel() for future in waiting}, {future.cancelled() for future in waiting})
    open(sys.argv[2], "w").close()
    print([future.result(60) for future in busy])
print("ended")
"""
    lines = run(source, cluster.address, str(tmp_path / "go"), cluster=cluster)
    assert lines == ["{True} {True}", "[None, None]", "ended"]


def test_resources_are_those_of_dask(cluster: Cluster) -> None:
    source = """
def meet(seconds):
    begun = time.time()
    time.sleep(seconds)
    return os.getpid(), begun, time.time()

with mp.Executor(sys.argv[1]) as executor:
    seated = executor.options(resources={"seat": 1}, name="seated", priority=5)
    spans = list(seated.map(meet, [0.1] * 6))
    for pid in {pid for pid, _, _ in spans}:
        own = sorted((begun, ended) for each, begun, ended in spans if each == pid)
        assert all(first[1] <= second[0] for first, second in zip(own, own[1:]))
    print(len(spans))
    unheard = executor.options(resources={"throne": 1}).submit(abs, -1)
    print(concurrent.futures.wait([unheard], timeout=0.5).done, unheard.cancel())
"""
    assert run(source, cluster.address, cluster=cluster) == ["6", "set() True"]


def test_a_shared_array_is_in_each_worker_once(cluster: Cluster) -> None:
    source = """
def place(array):
    time.sleep(0.05)
    return os.getpid(), array.__array_interface__["data"][0], array.flags.writeable

with mp.Executor(sys.argv[1]) as executor:
    shared = executor.share(numpy.ones(1_000_000))
    places = set(executor.map(place, [shared] * 12))
    print(len(places) == len({pid for pid, _, _ in places}), {may for _, _, may in places})
    received = sum(worker.bytes_received for worker in executor.statistics().workers)
    print(received < 50_000)
    references = executor._scheduler._shelf._references
    print(len(references))
    del shared
    executor.submit(abs, 1).result(60)
    executor.submit(abs, 1).result(60)
    print(len(references))
"""
    assert run(source, cluster.address, cluster=cluster) == ["True {False}", "True", "1", "0"]


def test_a_client_of_the_program_is_used_and_left(cluster: Cluster) -> None:
    source = """
import distributed
with distributed.Client(sys.argv[1].replace("dask", "tcp")) as client:
    with mp.Executor("dask") as executor:
        print(executor.submit(abs, -1).result(60), executor._max_workers)
    print(client.submit(abs, -2).result(60))
"""
    assert run(source, cluster.address, cluster=cluster) == ["1 2", "2"]


def test_nobody_listens() -> None:
    source = """
for address in sys.argv[1:]:
    try:
        mp.Executor(address, connect_timeout=2)
    except ConnectionError as error:
        print(error)
"""
    # The second one takes connections, and says nothing.
    with socket.create_server(("127.0.0.1", 0)) as mute:
        addresses = [f"dask://127.0.0.1:{free_port()}", f"dask://127.0.0.1:{mute.getsockname()[1]}"]
        lines = run(source, *addresses)
    for line, address in zip(lines, addresses, strict=True):
        assert line.startswith(f"no answer from {address} within 2 s")
        assert line.endswith(": is `dask scheduler` running there, of the same version as here?")


def test_a_cluster_that_ends_in_mid_flight() -> None:
    with (
        dask_cluster() as cluster,
        Program(HEAD + IN_MID_FLIGHT, cluster.address, environ=cluster.environ) as program,
    ):
        program.wait_for("running")
        cluster.kill()
        lines = program.finish().check().splitlines()
    assert lines[1].startswith(f"BrokenPool the connection to {cluster.address} is lost")
    assert lines[2] == "broken"


def test_ctrl_c_ends_a_wait(cluster: Cluster, tmp_path: Path) -> None:
    source = """
with mp.Executor(sys.argv[1]) as executor:
    future = executor.submit(wait_for, sys.argv[2])
    print("waiting", flush=True)
    try:
        future.result()
    except KeyboardInterrupt:
        # The end of the executor waits for what runs.
        open(sys.argv[2], "w").close()
        raise
"""
    arguments = cluster.address, str(tmp_path / "go")
    with Program(HEAD + source, *arguments, environ=cluster.environ) as program:
        program.wait_for("waiting")
        program.process.send_signal(signal.SIGINT)
        outcome = program.finish()
    assert outcome.exit_code in (1, -signal.SIGINT)
    assert "KeyboardInterrupt" in outcome.stderr
    assert outcome.survivors == ()


def test_what_is_accepted_is_done_at_exit(cluster: Cluster) -> None:
    lines = run(AT_EXIT, cluster.address, cluster=cluster)
    assert sorted(map(int, lines)) == list(range(20))


@pytest.mark.parametrize("how", ["shutdown", "exit", "SIGKILL"])
def test_a_local_cluster_leaves_nothing(how: str) -> None:
    leaves_nothing("dask", "forkless-dask-*", how, {})
