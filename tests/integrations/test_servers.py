"""gunicorn and uvicorn: applications that use a pool within requests, on real servers."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, build_opener

import pytest
from libraries import needs
from support import PATIENCE, Program, eventually, processes

WSGI = """
import json, os, forkless
from work import square, wait_for
pool = None  # Made by the first request, in the process that serves it.

def app(environ, start_response):
    global pool
    if pool is None:
        pool = forkless.Pool(2)
    if environ["PATH_INFO"] == "/slow":
        found = pool.apply(wait_for, (environ["QUERY_STRING"],))
    else:
        found = pool.map(square, range(4), chunksize=1)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps([os.getpid(), found]).encode()]
"""

PRELOADED = WSGI.replace(
    "pool = None  # Made by the first request", "pool = forkless.Pool(2)  # Made before the fork"
)

ASGI = """
import asyncio, json, os
from forkless import aio
from work import square, wait_for

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        async with aio.Pool(2) as app.pool:
            await send({"type": "lifespan.startup.complete"})
            await receive()
        return await send({"type": "lifespan.shutdown.complete"})
    if scope["path"] == "/slow":
        found = await app.pool.run(wait_for, scope["query_string"].decode())
    else:
        found = await asyncio.gather(*(app.pool.run(square, n) for n in range(4)))
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps([os.getpid(), found]).encode()})
"""

WORK = """
import os, time

def square(number):
    return number * number, os.getpid()

def wait_for(path):
    open(path + ".begun", "w").close()
    while not os.path.exists(path):
        time.sleep(0.01)
    return "done"
"""

GUNICORN = """
import sys
from gunicorn.app.wsgiapp import run
patience = ["--timeout", "300", "--graceful-timeout", "300"]
options = ["--workers", "2", "--bind", "127.0.0.1:0", *patience, "--chdir", sys.argv[1], *sys.argv[2:]]
sys.argv = ["gunicorn", *options, "app:app"]
sys.exit(run())
"""

UVICORN = """
import os, sys, uvicorn
if __name__ == "__main__":
    os.chdir(sys.argv[1])
    uvicorn.run("app:app", app_dir=sys.argv[1], host="127.0.0.1", port=0, workers=2, lifespan="on")
"""


class Kind(NamedTuple):
    """A server with an application."""

    library: str
    program: str
    application: str
    options: tuple[str, ...] = ()


KINDS = {
    "gunicorn": Kind("gunicorn", GUNICORN, WSGI),
    "gunicorn --preload": Kind("gunicorn", GUNICORN, WSGI, ("--preload",)),
    "gunicorn with threads": Kind("gunicorn", GUNICORN, WSGI, ("--threads", "2")),
    "uvicorn": Kind("uvicorn", UVICORN, ASGI),
}


class Server(NamedTuple):
    """A server that runs."""

    program: Program
    address: str

    def get(self, path: str = "/") -> Any:
        """The answer to a request: the process that served it, and what the pool found."""
        with build_opener(ProxyHandler({})).open(self.address + path, timeout=PATIENCE) as answer:
            return json.load(answer)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    kind = KINDS[request.param]
    needs(kind.library)
    return kind


@contextmanager
def serve(kind: Kind, directory: Path) -> Iterator[Server]:
    (directory / "app.py").write_text(kind.application)
    (directory / "work.py").write_text(WORK)
    environ = {"HOME": str(directory)}  # gunicorn has a socket there.
    with Program(kind.program, str(directory), *kind.options, environ=environ) as program:
        program.wait_for_error("http://127.0.0.1:")
        server = Server(program, address_of(program))
        # Now it has a socket, but uvicorn's does not listen yet.
        assert eventually(lambda: accepts(server)), program.stderr()
        yield server


def accepts(server: Server) -> bool:
    host, port = server.address.removeprefix("http://").split(":")
    try:
        socket.create_connection((host, int(port))).close()
    except ConnectionRefusedError:
        return False
    return True


def address_of(program: Program) -> str:
    """Where a server listens, from its log."""
    found = [word for word in program.stderr().split() if word.startswith("http://127.0.0.1:")]
    return found[0]


def stop(server: Server) -> None:
    server.program.signal(signal.SIGTERM)
    outcome = server.program.finish()
    assert outcome.survivors == (), outcome
    assert outcome.exit_code in (0, -signal.SIGTERM), outcome
    assert "Traceback" not in outcome.stderr, outcome


def test_requests_use_a_pool_and_the_server_stops_in_peace(kind: Kind, tmp_path: Path) -> None:
    with serve(kind, tmp_path) as server:
        for _ in range(6):
            pid, found = server.get()
            assert [result for result, _ in found] == [0, 1, 4, 9]
            assert pid not in {worker for _, worker in found}
        stop(server)


def test_a_request_that_runs_is_finished_before_the_server_stops(kind: Kind, tmp_path: Path) -> None:
    answers: list[Any] = []
    with serve(kind, tmp_path) as server:
        begun, path = tmp_path / "go.begun", tmp_path / "go"
        thread = threading.Thread(target=lambda: answers.append(server.get(f"/slow?{path}")))
        thread.start()
        assert eventually(begun.exists)
        server.program.signal(signal.SIGTERM)
        path.touch()
        thread.join()
        stop(server)
    assert [found for _, found in answers] == ["done"]


def test_a_server_process_that_is_killed_takes_its_workers_along(kind: Kind, tmp_path: Path) -> None:
    with serve(kind, tmp_path) as server:
        pid, found = server.get()
        os.kill(pid, signal.SIGKILL)
        workers = {worker for _, worker in found}
        assert eventually(lambda: not workers & set(processes()))
        answers: list[Any] = []
        assert eventually(lambda: answered(server, answers))
        assert [result for result, _ in answers[0][1]] == [0, 1, 4, 9]
        stop(server)


def test_the_whole_server_is_killed(kind: Kind, tmp_path: Path) -> None:
    with serve(kind, tmp_path) as server:
        pid, found = server.get()
        server.program.signal(signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)
        workers = {worker for _, worker in found}
        assert eventually(lambda: not workers & set(processes()))


def test_a_pool_from_before_the_fork_says_what_to_do(tmp_path: Path) -> None:
    needs("gunicorn")
    with serve(Kind("gunicorn", GUNICORN, PRELOADED, ("--preload",)), tmp_path) as server:
        with pytest.raises(HTTPError) as refused:
            server.get()
        assert refused.value.code == 500
        refused.value.close()
        server.program.wait_for_error("which this one was forked from: make a pool or an executor here")
        server.program.signal(signal.SIGTERM)
        assert server.program.finish().check() == ""


def answered(server: Server, answers: list[Any]) -> bool:
    """Whether the server answers: a connection that the dead one had accepted is lost."""
    try:
        answers.append(server.get())
    except (URLError, OSError):
        return False
    return True
