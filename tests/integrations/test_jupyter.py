"""A Jupyter kernel: functions that cells define, Ctrl-C, a restart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from libraries import needs
from support import Outcome, run_program

needs("ipykernel")
needs("nbclient")

# With the first variable ipykernel leaves alone what is written to the descriptors of standard output.
# With the second, its debugger writes no warning there, in the midst of what a cell writes.
QUIET = """
import os
os.environ.pop("PYTEST_CURRENT_TEST", None)
os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
"""

NOTEBOOK = (
    QUIET
    + """
import json, sys
import nbformat
from nbclient import NotebookClient

cells = [nbformat.v4.new_code_cell(cell) for cell in json.loads(sys.argv[1])]
notebook = nbformat.v4.new_notebook(cells=cells)
NotebookClient(notebook, kernel_name="python3", timeout=100).execute()
texts = []
for cell in notebook.cells:
    texts.append("".join(o.get("text") or o.get("data", {}).get("text/plain", "") for o in cell.outputs))
print(json.dumps(texts))
"""
)

KERNEL = (
    QUIET
    + """
import time
from jupyter_client.manager import start_new_kernel

manager, client = start_new_kernel(kernel_name="python3")

def read(until=None):
    "What the kernel writes and raises until it is idle, or until it has written a text."
    text = ""
    while until is None or until not in text:
        message = client.get_iopub_msg(timeout=100)
        kind, content = message["msg_type"], message["content"]
        text += content["text"] if kind == "stream" else content["ename"] if kind == "error" else ""
        if kind == "status" and content["execution_state"] == "idle" and is_of(message):
            break
    return text

def is_of(message):
    return message["parent_header"].get("msg_id") == request

def run(code, until=None):
    global request
    request = client.execute(code)
    return read(until)

def gone(pids):
    deadline = time.monotonic() + 60
    while any(os.path.exists(f"/proc/{pid}") for pid in pids):
        assert time.monotonic() < deadline, pids
        time.sleep(0.01)
"""
)


def run(source: str, directory: Path, *arguments: str) -> Outcome:
    places = {
        name: str(directory) for name in ("HOME", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR")
    }
    return run_program(source, *arguments, environ=places)


def execute(directory: Path, *cells: str) -> Any:
    written = run(NOTEBOOK, directory, json.dumps(cells)).check()
    # What children write the kernel also writes to its own standard output, which is that of the program.
    return json.loads(written.splitlines()[-1])


def test_a_notebook(tmp_path: Path) -> None:
    found = execute(
        tmp_path,
        "import forkless as mp, os\noffset = 10",
        "class Point:\n    def __init__(self, x): self.x = x\n"
        "def move(point):\n    return Point(point.x + offset)",
        "with mp.Pool(2) as pool:\n    moved = pool.map(move, [Point(n) for n in range(3)])\n"
        "[point.x for point in moved], all(type(point) is Point for point in moved)",
        "offset = 20",
        "with mp.Executor(2) as executor:\n    found = executor.submit(move, Point(1)).result().x\nfound",
        "with mp.Pool(2) as pool:\n    found = pool.map(lambda n: n * offset, range(3))\nfound",
        "def whereabouts(_):\n    return os.getpid()\n"
        "with mp.Pool(2) as pool:\n    pids = pool.map(whereabouts, range(8))\nos.getpid() in pids",
        "queue = mp.Queue()\ndef put():\n    queue.put(offset)\n"
        "child = mp.Process(target=put)\nchild.start()\nvalue = queue.get(timeout=60)\nchild.join()\nvalue",
    )
    assert [text for text in found if text] == ["([10, 11, 12], True)", "21", "[0, 20, 40]", "False", "20"]


def test_a_function_that_was_changed_runs_as_it_is_now(tmp_path: Path) -> None:
    found = execute(
        tmp_path,
        "import forkless as mp\npool = mp.Pool(1)",
        "def answer():\n    return 1",
        "pool.apply(answer)",
        "def answer():\n    return 2",
        "pool.apply(answer)",
    )
    assert [text for text in found if text] == ["1", "2"]


def test_workers_write_into_the_cell(tmp_path: Path) -> None:
    found = execute(
        tmp_path,
        "import forkless as mp\ndef greet(n):\n    print('hello', n)",
        "with mp.Pool(1) as pool:\n    pool.map(greet, range(3))",
        "child = mp.Process(target=greet, args=(7,))\nchild.start(); child.join(); child.exitcode",
    )
    assert found[1] == "hello 0\nhello 1\nhello 2\n"
    assert sorted(found[2].split("\n")) == ["0", "hello 7"]


def test_an_error_and_a_worker_that_dies(tmp_path: Path) -> None:
    found = execute(
        tmp_path,
        "import forkless as mp, os, signal\npool = mp.Pool(2)\n"
        "def caught(function, *arguments):\n"
        "    try:\n        pool.apply(function, arguments)\n"
        "    except Exception as error:\n        print(type(error).__name__, error)",
        "def divide(n):\n    return 1 / n\ncaught(divide, 0)",
        "def die():\n    os.kill(os.getpid(), signal.SIGKILL)\ncaught(die)",
        "pool.apply(divide, (4,))",
    )
    assert found[1] == "ZeroDivisionError division by zero\n"
    assert "WorkerDied worker PoolWorker-" in found[2]
    assert "was killed by SIGKILL while it ran die;" in found[2]
    assert found[3] == "0.25"


def test_an_interrupt_during_a_map_and_the_kernel_goes_on(tmp_path: Path) -> None:
    source = (
        KERNEL
        + """
run("import forkless as mp, time")
run("def work(n):\\n    print('begun', flush=True)\\n    time.sleep(1000)")
run("pool = mp.Pool(2)")
run("pool.map(work, range(2))", until="begun\\nbegun")
manager.interrupt_kernel()
print(read())
print(run("with mp.Pool(2) as other: print(other.map(abs, range(3)))"), end="")
print(run("pool.terminate(); pool.join(); print('ended')"), end="")
client.stop_channels()
manager.shutdown_kernel()
"""
    )
    outcome = run(source, tmp_path)
    assert outcome.check() == "KeyboardInterrupt\n[0, 1, 2]\nended\n"


@pytest.mark.parametrize("now", [True, False])
def test_a_restart_leaves_nothing_behind(now: bool, tmp_path: Path) -> None:
    source = (
        KERNEL
        + f"""
code = "import forkless as mp, os, time\\npool = mp.Pool(2)\\n"
code += "pool.apply_async(time.sleep, (1000,))\\nprint(*[w.pid for w in mp.active_children()])"
pids = run(code).split()
assert len(pids) == 2, pids
manager.restart_kernel(now={now})
client.wait_for_ready(timeout=100)
gone(pids)
print(run("import forkless as mp\\nwith mp.Pool(2) as pool: print(pool.map(abs, range(3)))"), end="")
client.stop_channels()
manager.shutdown_kernel()
"""
    )
    assert run(source, tmp_path).check() == "[0, 1, 2]\n"
