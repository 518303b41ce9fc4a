"""Real clusters for tests, on loopback: a Ray head with its client server, a Dask scheduler with workers.

They are ended by the ids of their processes. `ray stop` would end those of everybody on the machine.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from support import environment_of, eventually, processes, run_program

_MARK = "FORKLESS_TEST_CLUSTER"


class Cluster:
    """Processes of a cluster, with all their descendants.

    Args:
        environ: variables that they get.

    Attributes:
        address: what `forkless.Executor` is given.
        environ: what programs that use it need.
    """

    def __init__(self, environ: dict[str, str] | None = None) -> None:
        self._mark = secrets.token_hex(8)
        # Short, as Ray has sockets in it.
        self._home = tempfile.TemporaryDirectory(prefix="fl", ignore_cleanup_errors=True)
        self.directory = Path(self._home.name)
        self.environ = {**(environ or {}), "HOME": str(self.directory)}
        self.address = ""
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Starts one more process."""
        with (self.directory / f"log-{len(self._started)}").open("wb") as log:
            process = subprocess.Popen(
                command,
                env={**os.environ, **self.environ, _MARK: self._mark},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=self.directory,
            )
        self._started.append(process)
        return process

    def logs(self) -> str:
        """What its processes have printed."""
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.directory.glob("log-*")))

    def kill(self) -> None:
        """Kills all processes."""
        mark = f"{_MARK}={self._mark}".encode()

        def ours() -> list[int]:
            return [pid for pid in processes() if mark in environment_of(pid)]

        for _ in range(50):
            for pid in ours():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if eventually(lambda: not ours(), 1):
                break
        for process in self._started:
            process.wait()

    def stop(self) -> None:
        """Kills all processes, and removes what they have left."""
        self.kill()
        self._home.cleanup()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def local_environ() -> dict[str, str]:
    """What a program needs that starts a cluster itself."""
    return ray_environ()


def free_port() -> int:
    """A port of loopback that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(port: int) -> bool:
    """Whether somebody listens there."""
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    return False


def ray_environ() -> dict[str, str]:
    """Nothing is sent home, and nobody else may use the cluster."""
    return {
        "RAY_USAGE_STATS_ENABLED": "0",
        # What the cluster says about itself would be among what programs print.
        "RAY_SCHEDULER_EVENTS": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        # What keeps it on loopback; the name tells where else that is usual.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        # Its client server forks with threads; without this, more of these forks hang.
        "GRPC_ENABLE_FORK_SUPPORT": "0",
    }


@contextlib.contextmanager
def ray_cluster(cpus: int = 2) -> Iterator[Cluster]:
    """A head node with a client server."""
    with Cluster(ray_environ()) as cluster:
        client, head = free_port(), free_port()
        ray = str(Path(sys.executable).with_name("ray"))
        options = {
            "port": head,
            "ray-client-server-port": client,
            "min-worker-port": 0,
            "max-worker-port": 0,
            "dashboard-port": free_port(),
            "dashboard-agent-listen-port": free_port(),
            "num-cpus": cpus,
            "object-store-memory": 500_000_000,
            "include-dashboard": "false",
            "node-ip-address": "127.0.0.1",
            "temp-dir": str(cluster.directory / "r"),
            "resources": '{"seat": 1}',
        }
        words = [f"--{name}={value}" for name, value in options.items()]
        cluster.start(ray, "start", "--head", "--block", "--disable-usage-stats", *words)
        cluster.address = f"ray://127.0.0.1:{client}"
        cluster.environ["RAY_ADDRESS_OF_TEST"] = f"127.0.0.1:{head}"
        assert eventually(lambda: answers(client)), cluster.logs()
        yield cluster


@contextlib.contextmanager
def dask_cluster(workers: int = 2, failures: int = 0) -> Iterator[Cluster]:
    """A scheduler and workers, each with one thread."""
    with Cluster({"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": str(failures)}) as cluster:
        port = free_port()
        python = [sys.executable, "-m"]
        where = ["--host", "127.0.0.1"]
        cluster.start(
            *python, "distributed.cli.dask_scheduler", *where, "--port", str(port), "--no-dashboard"
        )
        assert eventually(lambda: answers(port)), cluster.logs()
        for _ in range(workers):
            cluster.start(
                *python,
                "distributed.cli.dask_worker",
                f"tcp://127.0.0.1:{port}",
                *where,
                *("--nthreads", "1", "--no-dashboard", "--resources", "seat=1", "--local-directory", "w"),
            )
        cluster.address = f"dask://127.0.0.1:{port}"
        yield cluster


# --- what is asked of both engines -----------------------------------------------------------------------

# What programs begin with.
HEAD = """
import concurrent.futures, os, signal, sys, threading, time
import forkless as mp, numpy

def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.01)
"""

# Its cluster is ended when it says that it runs.
IN_MID_FLIGHT = """
with mp.Executor(sys.argv[1]) as executor:
    future = executor.submit(time.sleep, 3600)
    while not future.running():
        time.sleep(0.01)
    print("running", flush=True)
    error = future.exception(100)
    print(type(error).__name__, error)
    try:
        executor.submit(abs, 1)
    except mp.BrokenPool as error:
        print("broken")
"""

# Ends with tasks that nobody waits for.
AT_EXIT = """
executor = mp.Executor(sys.argv[1])
for number in range(20):
    executor.submit(abs, -number).add_done_callback(lambda f: print(f.result(), flush=True))
"""

_LOCAL = """
executor = mp.Executor(sys.argv[1])
shared = executor.share(numpy.full(100_000, 7.0))
print(int(executor.submit(numpy.max, shared).result(60)), flush=True)
if sys.argv[2] == "shutdown":
    executor.shutdown()
elif sys.argv[2] == "SIGKILL":
    os.kill(os.getpid(), signal.SIGKILL)
"""


def leaves_nothing(address: str, scratch: str, how: str, environ: dict[str, str]) -> None:
    """Asserts that a program with a local cluster ends, and neither a process nor a directory is left.

    Args:
        address: "ray" or "dask".
        scratch: a pattern for the names of its temporary directories.
        how: the end of the program: "shutdown" of the executor, "exit" without, or "SIGKILL".
        environ: variables that the program needs.
    """

    def directories() -> set[Path]:
        return set(Path(tempfile.gettempdir()).glob(scratch))

    before = directories()
    outcome = run_program(HEAD + _LOCAL, address, how, environ=environ)
    assert outcome.stdout == "7\n", outcome
    assert outcome.exit_code == (-signal.SIGKILL if how == "SIGKILL" else 0), outcome
    assert outcome.survivors == (), outcome
    assert eventually(lambda: directories() <= before), directories() - before
