"""`Executor("ray://...")` and `Executor("ray")`: what is particular to Ray, and what goes wrong."""

from __future__ import annotations

import signal
import socket
import tempfile
from collections.abc import Iterator

import pytest
from clusters import (
    AT_EXIT,
    HEAD,
    IN_MID_FLIGHT,
    Cluster,
    free_port,
    leaves_nothing,
    local_environ,
    ray_cluster,
)
from libraries import needs
from support import PROGRAM_PATIENCE, Program, run_program

needs("ray")
needs("grpc")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with ray_cluster() as made:
        yield made


def run(source: str, *arguments: str, environ: dict[str, str]) -> list[str]:
    """The lines that a program prints, but for what Ray prints there."""
    text = run_program(HEAD + source, *arguments, environ=environ).check()
    return [line for line in text.splitlines() if "(raylet)" not in line]


def test_a_killed_worker_fails_its_task(cluster: Cluster) -> None:
    source = """
with mp.Executor(sys.argv[1]) as executor:
    error = executor.submit(lambda: os.kill(os.getpid(), signal.SIGKILL)).exception(60)
    print(type(error).__name__, str(error).partition(" while it ran <lambda>; ")[0])
    print(type(error.__cause__).__name__)
    print(executor.submit(abs, -1).result(60))
    retry = mp.Retry(1, delay=0.01, on=mp.WorkerDied)
    error = executor.options(retries=retry).submit(os._exit, 1).exception(60)
    print(type(error).__name__, executor.statistics().retried)
"""
    assert run(source, cluster.address, environ=cluster.environ) == [
        "WorkerDied a Ray worker has died (Ray does not tell which one)",
        "WorkerCrashedError",
        "1",
        "WorkerDied 1",
    ]


def test_time_limits(cluster: Cluster) -> None:
    source = """
def stubborn():
    until = time.monotonic() + 600
    while time.monotonic() < until:
        try:
            time.sleep(1)
        except BaseException:
            pass

def tidy(path):
    try:
        time.sleep(600)
    finally:
        with open(path, "w") as file:
            file.write("tidied")

with mp.Executor(sys.argv[1]) as executor:
    limited = executor.options(timeout=0.5)
    error = limited.submit(tidy, "tidied").exception(60)
    print(type(error).__name__, error)
    print(limited.submit(abs, -1).result(60))
    error = limited.submit(stubborn).exception(60)
    print(type(error).__name__, error)
    print(limited.options(timeout=30).submit(abs, -2).result(60))
"""
    text = "took longer than its time limit of 0.5 s;"
    assert run(source, cluster.address, environ=cluster.environ) == [
        f"TimeoutError tidy('tidied') {text} it was broken off where it was",
        "1",
        f"TimeoutError stubborn {text} its worker was killed",
        "2",
    ]


def test_cancel_ends_a_task_that_runs(cluster: Cluster) -> None:
    source = """
def stubborn(path):
    open(path, "w").close()
    until = time.monotonic() + 600
    while time.monotonic() < until:
        try:
            time.sleep(1)
        except BaseException:
            pass

def note(path):
    open(path, "w").close()
    time.sleep(600)

with mp.Executor(sys.argv[1]) as executor:
    for function in (note, stubborn):
        path = os.path.join(sys.argv[2], function.__name__)
        # All places are taken: what comes next shows that they are free again.
        futures = [executor.submit(function, f"{path}{number}") for number in range(2)]
        for number in range(2):
            wait_for(f"{path}{number}")
        print([future.cancel() for future in futures], [future.cancelled() for future in futures])
        print(sum(executor.map(abs, range(-5, 0))))
"""
    with tempfile.TemporaryDirectory() as directory:
        lines = run(source, cluster.address, directory, environ=cluster.environ)
    assert lines == ["[True, True] [True, True]", "15"] * 2


def test_resources_are_those_of_ray(cluster: Cluster) -> None:
    source = """
with mp.Executor(sys.argv[1]) as executor:
    needs = {"CPU": 0.5, "memory": 10_000_000, "seat": 1}
    seated = executor.options(resources=needs, name="seated", priority=5)
    print(list(seated.map(abs, range(-3, 0))))
    unheard = executor.options(resources={"throne": 1}).submit(abs, -1)
    print(concurrent.futures.wait([unheard], timeout=1).done, unheard.cancel())
    print(executor.submit(abs, -1).result(60))
"""
    assert run(source, cluster.address, environ=cluster.environ) == [
        "[3, 2, 1]",
        "set() True",
        "1",
    ]


def test_a_shared_array_is_sent_once(cluster: Cluster) -> None:
    source = """
with mp.Executor(sys.argv[1]) as executor:
    shared = mp.share(numpy.ones(1_000_000))
    print(set(executor.map(numpy.sum, [shared] * 12)) == {1e6})
    received = sum(worker.bytes_received for worker in executor.statistics().workers)
    print(received < 50_000)
    references = executor._scheduler._shelf._references
    print(len(references))
    del shared
    executor.submit(abs, 1).result(60)
    executor.submit(abs, 1).result(60)
    print(len(references))
"""
    assert run(source, cluster.address, environ=cluster.environ) == ["True", "True", "1", "0"]


def test_a_connection_of_the_program_is_used_and_left(cluster: Cluster) -> None:
    source = """
import ray
ray.init(os.environ["RAY_ADDRESS_OF_TEST"], logging_level="ERROR")
with mp.Executor("ray") as executor:
    print(executor.submit(abs, -1).result(60), executor._max_workers)
print(ray.get(ray.put(2)))
ray.shutdown()
"""
    assert run(source, environ=cluster.environ) == ["1 2", "2"]


def test_two_executors_of_different_clusters_do_not_disturb_each_other(cluster: Cluster) -> None:
    source = """
with mp.Executor(sys.argv[1]) as first, mp.Executor(sys.argv[1]) as second:
    print(first.submit(abs, -1).result(60), second.submit(abs, -2).result(60))
    first.shutdown()
    print(second.submit(abs, -3).result(60))
"""
    assert run(source, cluster.address, environ=cluster.environ) == ["1 2", "3"]


def test_nobody_listens() -> None:
    source = """
for address in sys.argv[1:]:
    try:
        mp.Executor(address, connect_timeout=2)
    except ConnectionError as error:
        print(error)
sys.stdout.flush()
os._exit(0)  # Ray itself goes on for half a minute.
"""
    # The second one takes connections, and says nothing.
    with socket.create_server(("127.0.0.1", 0)) as mute:
        addresses = [f"ray://127.0.0.1:{free_port()}", f"ray://127.0.0.1:{mute.getsockname()[1]}"]
        lines = run(source, *addresses, environ=local_environ())
    for line, address in zip(lines, addresses, strict=True):
        assert line.startswith(f"no answer from {address} within 2 s")
        port = address.rpartition(":")[2]
        assert f": is `ray start --head --ray-client-server-port={port}` running there, of the same" in line


def test_a_cluster_that_ends_in_mid_flight() -> None:
    with ray_cluster() as cluster:
        environ = cluster.environ | {"RAY_CLIENT_RECONNECT_GRACE_PERIOD": "2"}
        with Program(HEAD + IN_MID_FLIGHT, cluster.address, environ=environ) as program:
            program.wait_for("running", PROGRAM_PATIENCE)
            cluster.kill()
            lines = program.finish().check().splitlines()
    assert lines[1].startswith(f"BrokenPool the connection to {cluster.address} is lost")
    assert lines[2] == "broken"


def test_ctrl_c_ends_a_wait(cluster: Cluster) -> None:
    source = """
with mp.Executor(sys.argv[1]) as executor:
    future = executor.submit(time.sleep, 600)
    print("waiting", flush=True)
    future.result()
"""
    with Program(HEAD + source, cluster.address, environ=cluster.environ) as program:
        program.wait_for("waiting", PROGRAM_PATIENCE)
        program.signal(signal.SIGINT)
        outcome = program.finish()
    assert outcome.exit_code in (1, -signal.SIGINT)
    assert "KeyboardInterrupt" in outcome.stderr
    assert outcome.survivors == ()


def test_what_is_accepted_is_done_at_exit(cluster: Cluster) -> None:
    lines = run(AT_EXIT, cluster.address, environ=cluster.environ)
    assert sorted(map(int, lines)) == list(range(20))


@pytest.mark.parametrize("how", ["shutdown", "exit", "SIGKILL"])
def test_a_local_ray_leaves_nothing(how: str) -> None:
    leaves_nothing("ray", "flray-*", how, local_environ())
