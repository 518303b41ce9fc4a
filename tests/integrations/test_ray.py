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


# What is in Ray's memory, as soon as that is as it should be.
_STORE = """
import gc, ray

def in_store(expected):
    for _ in range(600):
        free = ray.available_resources().get("object_store_memory", 0)
        used = ray.cluster_resources()["object_store_memory"] - free
        if expected <= used < expected + 10_000:
            return "as expected"
        time.sleep(0.1)
    return used

def is_in_store(array):
    place = array.__array_interface__["data"][0]
    for line in open("/proc/self/maps"):
        start, end = (int(part, 16) for part in line.split()[0].split("-"))
        if start <= place < end:
            return "/dev/shm/plasma" in line
"""


def test_an_array_is_shared_without_a_copy_and_leaves_nothing_in_ray(cluster: Cluster) -> None:
    source = """
with mp.Executor("ray") as executor:
    shared = executor.share(numpy.arange(1_000_000.0).reshape(1000, 1000))
    print(is_in_store(shared), shared.flags.writeable, shared.sum() == 499999500000)
    print({executor.submit(is_in_store, each).result(60) for each in (shared, shared.T, shared[7:, ::-2])})
    print({float(total) for total in executor.map(numpy.sum, [shared] * 12)})
    print(in_store(8_000_000))
    part = shared[0, 5:7]
    del shared
    print(in_store(8_000_000), executor.submit(numpy.sum, part).result(60))
    del part
    print(in_store(0))

    # What forkless has shared goes there by itself.
    shared = mp.share(numpy.arange(1_000_000.0))
    print(is_in_store(shared), executor.submit(is_in_store, shared).result(60), in_store(8_000_000))
    del shared
    print(in_store(0))
print(ray.is_initialized())
"""
    environ = cluster.environ | {"RAY_ADDRESS": cluster.environ["RAY_ADDRESS_OF_TEST"]}
    assert run(_STORE + source, environ=environ) == [
        "True False True",
        "{True}",
        "{499999500000.0}",
        "as expected",
        "as expected 11.0",
        "as expected",
        "False True as expected",
        "as expected",
        "False",
    ]


def test_what_was_shared_stays_as_it_is_when_others_use_rays_memory(cluster: Cluster) -> None:
    source = """
with mp.Executor("ray") as executor:
    kept = executor.share(numpy.arange(10_000_000.0))
print(ray.is_initialized())
fill = "import ray, numpy; ray.init(logging_level='ERROR'); ray.put(numpy.full(40_000_000, -1.0))"
import subprocess
subprocess.run([sys.executable, "-c", fill], check=True)
print(int(kept.sum()) == 10_000_000 * 9_999_999 // 2)
with mp.Executor("ray") as executor:
    print(executor.submit(numpy.max, kept).result(60))
print(kept[5])
"""
    environ = cluster.environ | {"RAY_ADDRESS": cluster.environ["RAY_ADDRESS_OF_TEST"]}
    assert run(_STORE + source, environ=environ) == ["True", "True", "9999999.0", "5.0"]


@pytest.mark.parametrize("own", [True, False])
def test_where_ray_is_not_ours_to_leave_there_is_a_copy_here(cluster: Cluster, own: bool) -> None:
    source = """
if sys.argv[1] == "ray":
    ray.init(os.environ["RAY_ADDRESS_OF_TEST"], logging_level="ERROR")
with mp.Executor(sys.argv[1]) as executor:
    shared = executor.share(numpy.arange(1_000_000.0))
    print(is_in_store(shared), executor.submit(is_in_store, shared).result(60))
ray.shutdown()
print(shared.sum())
"""
    address = "ray" if own else cluster.address
    assert run(_STORE + source, address, environ=cluster.environ) == ["False True", "499999500000.0"]


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
