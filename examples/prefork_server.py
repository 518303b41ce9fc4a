#!/usr/bin/env python3
"""A pre-fork server in the spirit of gunicorn: one listening socket, and workers that accept on it.

The application looks records up in an index of Python objects, 200 MB of them. Who holds it is the question:

    (nothing)    each worker loads the index itself, as under gunicorn
    --preload    it is loaded once and preloaded (`forkless.preload`): workers find it in their memory
    --share      it is loaded once and put into shared memory (`forkless.share`), where workers read it
    --fork       it is loaded once and workers are forked, as under `gunicorn --preload`; for reference

By default the program has its own workers read everything, and prints what all processes take together before
and after. `--compare` does that in all four ways. With `--port` it serves others, until SIGTERM or Ctrl-C:

    $ python3 prefork_server.py --preload --port 8765 &
    $ curl http://127.0.0.1:8765/records/user-7

A worker that is killed is replaced. There is no `__main__` guard: children never execute this file.
"""

import argparse
import contextlib
import gc
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.request import urlopen
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import forkless
from forkless.connection import wait

Index = Mapping[str, Mapping[str, Any]]


def load(records: int) -> dict[str, dict[str, Any]]:
    """The data: records by name."""
    return {
        f"user-{number}": {
            "number": number,
            "name": f"User {number}",
            "mail": f"user-{number}@example.org",
            "groups": [number % 7, number % 11],
        }
        for number in range(records)
    }


# In the workers.


class Application:
    """The WSGI application."""

    def __init__(self, index: Index) -> None:
        self.index = index

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        answer = self.answer(environ["PATH_INFO"])
        status = "404 Not Found" if answer is None else "200 OK"
        start_response(status, [("Content-Type", "application/json")])
        return [json.dumps(answer, default=plain).encode()]

    def answer(self, path: str) -> Mapping[str, Any] | None:
        """One record; or, for `/total`, a sum over all, after which the garbage is collected."""
        if path == "/total":
            total = sum(record["number"] + len(record["groups"]) for record in self.index.values())
            gc.collect()
            return {"worker": os.getpid(), "total": total}
        return self.index.get(path.removeprefix("/records/"))


def plain(shared: forkless.SharedDict[str, Any]) -> dict[str, Any]:
    """For JSON, a shared record as an ordinary one."""
    return shared.todict()


class Handler(WSGIRequestHandler):
    """Answers without a line for each request."""

    def log_message(self, *_: object) -> None:
        pass


class Server(WSGIServer):
    """A server on a socket that listens already."""

    timeout = 0.5  # seconds until it looks again whether it shall end

    def __init__(self, listener: socket.socket, application: Application) -> None:
        super().__init__(listener.getsockname(), Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.server_name, self.server_port = listener.getsockname()
        self.setup_environ()
        self.set_app(application)


def work(listener: socket.socket, index: Index | int, ready: Any) -> None:
    """A worker: answers until SIGTERM, and then ends after the request that it is at."""
    stopping: list[int] = []
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process, which then says SIGTERM
    signal.signal(signal.SIGTERM, lambda number, _: stopping.append(number))
    server = Server(listener, Application(load(index) if isinstance(index, int) else index))
    ready.release()
    while not stopping:
        server.handle_request()


# In the main process.


class Workers:
    """The workers, of which there are always as many.

    Args:
        count: How many.
        start: Starts one, for `forkless` or `multiprocessing`.
    """

    def __init__(self, count: int, start: Callable[[], Any]) -> None:
        self._start = start
        self.all = [start() for _ in range(count)]

    def watch(self, timeout: float) -> None:
        """Waits for deaths, at most so many seconds, and replaces who was killed."""
        sentinels = wait([worker.sentinel for worker in self.all], timeout)
        for worker in [worker for worker in self.all if worker.sentinel in sentinels]:
            worker.join()
            if worker.exitcode >= 0:
                raise SystemExit(
                    f"worker {worker.pid} ended with exit code {worker.exitcode}: so would the next"
                )
            name = signal.Signals(-worker.exitcode).name
            print(f"worker {worker.pid} was killed by {name}: another takes its place", flush=True)
            self.all[self.all.index(worker)] = self._start()

    def stop(self) -> None:
        """Lets each finish its request."""
        for worker in self.all:
            worker.terminate()
        for worker in self.all:
            worker.join(5)
            worker.kill()
            worker.join()


# What workers import, to be had in common in any case.
MODULES = ["wsgiref.simple_server", "urllib.request", "multiprocessing"]


def prepare(options: argparse.Namespace) -> Index | int:
    """What workers are given: the index, or of how many records they shall make it themselves."""
    if options.fork:
        return load(options.records)
    if options.preload:
        index = load(options.records)
        forkless.preload(index, modules=MODULES)
        return index
    forkless.preload(modules=MODULES)
    return forkless.share(load(options.records)) if options.share else options.records


def start_workers(options: argparse.Namespace, listener: socket.socket) -> Workers:
    """Starts all workers and waits until they are ready."""
    context: Any = multiprocessing.get_context("fork") if options.fork else forkless
    index = prepare(options)
    ready = context.Semaphore(0)

    def start() -> Any:
        worker = context.Process(target=work, args=(listener, index, ready))
        worker.start()
        return worker

    workers = Workers(options.workers, start)
    for _ in range(options.workers):
        while not ready.acquire(timeout=0.1):
            workers.watch(0)
    return workers


def memory(workers: Workers) -> tuple[float, float]:
    """What all processes together take (PSS), and what a worker has of its own, on average; in MB."""
    pids = {worker.pid for worker in workers.all}
    report = forkless.memory_report()
    pss = {each.pid: each.pss for each in report.processes} | {pid: sizes(pid)["Pss"] for pid in pids}
    dirty = sum(sizes(pid)["Private_Dirty"] for pid in pids)
    return sum(pss.values()) / 1e6, dirty / len(pids) / 1e6


def sizes(pid: int) -> dict[str, int]:
    """The memory of a process in bytes, by the kernel's names."""
    with open(f"/proc/{pid}/smaps_rollup") as rollup:
        lines = [line.split() for line in rollup if line.endswith("kB\n")]
    return {line[0].rstrip(":"): int(line[1]) * 1024 for line in lines}


def ask_all(port: int, workers: Workers, requests: int) -> int:
    """Has every worker read everything: so many requests at once, again until each has answered one.

    Returns:
        How many requests that took.
    """
    url, asked = f"http://127.0.0.1:{port}/total", 0
    seen: set[int] = set()

    def ask(_: int) -> Any:
        with urlopen(url, timeout=60) as response:
            return json.load(response)["worker"]

    with ThreadPoolExecutor(requests) as clients:
        while not seen.issuperset(worker.pid for worker in workers.all):
            answers = [clients.submit(ask, number) for number in range(requests)]
            while not all(answer.done() for answer in answers):
                workers.watch(0.05)
            seen.update(answer.result() for answer in answers)
            asked += requests
    return asked


def serve(options: argparse.Namespace) -> dict[str, Any] | None:
    """Serves others until it is told to end; or has its workers read everything, and says what that took."""
    listener = socket.create_server(("127.0.0.1", options.port or 0), backlog=128)
    os.set_blocking(listener.fileno(), False)  # a connection wakes several workers, and one gets it
    port = listener.getsockname()[1]
    workers = start_workers(options, listener)
    try:
        if options.port is not None:
            print(f"serving on http://127.0.0.1:{port} with {options.workers} workers", flush=True)
        while options.port is not None:
            workers.watch(60)
        before = memory(workers)
        requests = ask_all(port, workers, options.workers)
        return {"requests": requests, "before": before, "after": memory(workers)}
    finally:
        workers.stop()
        listener.close()


def compare(options: argparse.Namespace) -> None:
    """Runs this program in all ways, and prints what each took."""
    print(f"{'in MB':<22}{'all processes (PSS)':^32}{'of its own (private dirty)':^34}")
    print(f"{'':<22}{'at first':>14}{'all read':>16}{'each worker':>20}{'all read':>14}")
    for title, way in WAYS.items():
        command = [sys.executable, __file__, *way, "--json", "--records", str(options.records)]
        run = subprocess.run(
            [*command, "--workers", str(options.workers)], stdout=subprocess.PIPE, check=True
        )
        told = json.loads(run.stdout)
        figures = [told[when][column] for column in (0, 1) for when in ("before", "after")]
        print(f"{title:<22}" + "{:>14.1f}{:>16.1f}{:>20.1f}{:>14.1f}".format(*figures))


WAYS = {
    "each loads it itself": [],
    "fork": ["--fork"],
    "forkless.preload": ["--preload"],
    "forkless.share": ["--share"],
}


def stop(number: int, _: Any) -> None:
    """Ends on SIGTERM as on Ctrl-C."""
    raise KeyboardInterrupt


def main(options: argparse.Namespace) -> None:
    """Serves, and prints what that took."""
    signal.signal(signal.SIGTERM, stop)
    told = serve(options)
    if told and options.json:
        print(json.dumps(told))
    elif told:
        print("memory", in_words(*told["before"]))
        print(f"{told['requests']} requests read all records, and collected garbage")
        print("memory", in_words(*told["after"]))


def in_words(together: float, own: float) -> str:
    return (
        f"of all processes together: {together:.1f} MB (PSS); of a worker alone: {own:.1f} MB (private dirty)"
    )


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


parser = argparse.ArgumentParser(description="Looks records up in 200 MB of Python objects.")
way = parser.add_mutually_exclusive_group()
way.add_argument("--preload", action="store_true", help="load once, for all workers (forkless.preload)")
way.add_argument("--share", action="store_true", help="load once, into shared memory (forkless.share)")
way.add_argument("--fork", action="store_true", help="load once and fork, for reference")
way.add_argument("--compare", action="store_true", help="show the memory of all four ways")
parser.add_argument(
    "--port", type=int, metavar="N", help="serve others, until SIGTERM or Ctrl-C; 0 for any port"
)
parser.add_argument("--workers", type=positive, metavar="N", default=4, help="default: %(default)s")
parser.add_argument(
    "--records", type=positive, metavar="N", default=360_000, help="default: %(default)s, 200 MB"
)
parser.add_argument("--json", action="store_true", help="print the memory as JSON")
chosen = parser.parse_args()
with contextlib.suppress(KeyboardInterrupt):
    compare(chosen) if chosen.compare else main(chosen)
