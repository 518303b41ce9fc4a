"""`forkless.Process`: starting, ending, and what a child finds."""

from __future__ import annotations

import os
import pickle
import select
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import cloudpickle
import forkless
import jobs
import pytest
from forkless.context import BaseContext
from support import PATIENCE, Program, run_program


@pytest.fixture(params=["forkserver", "spawn"])
def context(request: pytest.FixtureRequest) -> BaseContext:
    return forkless.get_context(request.param)


def run(context: BaseContext, target: Any, *args: Any) -> forkless.Process:
    process = context.Process(target=target, args=args)
    process.start()
    process.join(PATIENCE)
    return process


def run_and_get(context: BaseContext, target: Any, *args: Any) -> Any:
    """Runs a target that takes a queue first, and returns what it puts there."""
    queue: forkless.Queue[Any] = forkless.Queue()
    process = run(context, target, queue, *args)
    assert process.exitcode == 0
    return queue.get(timeout=PATIENCE)


# --- a life ---


def test_a_life(context: BaseContext) -> None:
    go = context.Event()
    process = context.Process(target=jobs.wait_for, args=(go,))
    assert [process.pid, process.exitcode, process.is_alive()] == [None, None, False]
    with pytest.raises(ValueError, match="not started"):
        _ = process.sentinel
    process.start()
    assert process.pid == process.ident != os.getpid()
    assert [process.exitcode, process.is_alive()] == [None, True]
    assert not select.select([process.sentinel], [], [], 0)[0]
    process.join(0)
    process.join(-1)
    assert [process.is_alive()] == [True], "a timeout of zero or less only looks"
    go.set()
    process.join()
    assert select.select([process.sentinel], [], [], 0)[0]
    assert [process.exitcode, process.is_alive()] == [0, False]
    process.close()
    with pytest.raises(ValueError, match="closed"):
        process.is_alive()


@pytest.mark.parametrize(
    ("target", "argument", "expected"),
    [
        (jobs.exit_with, 0, 0),
        (jobs.exit_with, None, 0),
        (jobs.exit_with, 3, 3),
        (jobs.exit_with, -1, 255),
        (jobs.exit_with, 2**70 + 5, 5),
        (jobs.exit_with, True, 1),
        (os._exit, 7, 7),
        (jobs.refuse, "luck", 1),
        (jobs.die, signal.SIGKILL, -signal.SIGKILL),
        (jobs.die, signal.SIGSEGV, -signal.SIGSEGV),
        (jobs.die, signal.SIGTERM, -signal.SIGTERM),
        (jobs.die, signal.SIGRTMIN, -signal.SIGRTMIN),
    ],
)
def test_exit_codes_are_exact(context: BaseContext, target: Any, argument: Any, expected: int) -> None:
    assert run(context, target, argument).exitcode == expected


def test_terminate_and_kill(context: BaseContext) -> None:
    ready = context.Event()
    for end, number in (("terminate", signal.SIGTERM), ("kill", signal.SIGKILL)):
        process = context.Process(target=jobs.set_and_hang, args=(ready,))
        process.start()
        assert ready.wait(PATIENCE)
        getattr(process, end)()
        process.join(PATIENCE)
        assert process.exitcode == -number
        getattr(process, end)()  # nothing left to do
        ready.clear()


def start_stubborn(context: BaseContext) -> forkless.Process:
    ready = context.Event()
    process = context.Process(target=jobs.stubborn, args=(ready,))
    process.start()
    assert ready.wait(PATIENCE)
    return process


def test_terminate_with_a_grace_kills_what_does_not_end(context: BaseContext) -> None:
    process = start_stubborn(context)
    process.terminate(grace=1000)
    process.terminate(grace=0.05)
    # Nobody asks forkless about it.
    assert select.select([process.sentinel], [], [], PATIENCE)[0]
    assert process.exitcode == -signal.SIGKILL
    process.join()
    process.terminate(grace=0)  # nothing left to do


def test_terminate_with_a_grace_is_sigterm_first(context: BaseContext) -> None:
    ready = context.Event()
    process = context.Process(target=jobs.set_and_hang, args=(ready,))
    process.start()
    assert ready.wait(PATIENCE)
    process.terminate(grace=1000)
    process.join(PATIENCE)
    assert process.exitcode == -signal.SIGTERM


def test_terminate_alone_kills_nobody(context: BaseContext) -> None:
    asked = context.Event()

    def target() -> None:
        signal.signal(signal.SIGTERM, lambda *_: asked.set())
        ready.set()
        while True:
            signal.pause()

    ready = context.Event()
    process = context.Process(target=target)
    process.start()
    assert ready.wait(PATIENCE)
    process.terminate()
    assert asked.wait(PATIENCE)
    assert process.is_alive()
    with pytest.raises(ValueError, match="grace"):
        process.terminate(grace=-1)
    with pytest.raises(ValueError, match="grace"):
        forkless.set_terminate_grace(-1)
    context.set_terminate_grace(0.05)
    try:
        process.terminate()
    finally:
        forkless.set_terminate_grace(None)
    process.join(PATIENCE)
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
@pytest.mark.parametrize("wait", ["process.join()", "while process.is_alive(): pass"])
def test_a_grace_without_a_template(method: str, wait: str) -> None:
    source = f"""
import forkless, os, signal
from forkless import _forkless
context = forkless.get_context({method!r})
ready = context.Event()
def stubborn(ready):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ready.set()
    while True:
        signal.pause()
process = context.Process(target=stubborn, args=(ready,))
process.start()
assert ready.wait(60)
template = next(pid for pid, _, role in _forkless.processes() if role == "template")
os.kill(template, signal.SIGKILL)
os.waitid(os.P_PID, template, os.WEXITED | os.WNOWAIT)
process.terminate(grace=0.05)
{wait}
assert process.pid not in [pid for pid, _, _ in _forkless.processes()]
"""
    run_program(source).check()


def test_a_lambda_and_a_closure(context: BaseContext) -> None:
    queue: forkless.Queue[int] = forkless.Queue()
    offset = 40

    def target(value: int) -> None:
        queue.put(value + offset)

    assert run(context, target, 2).exitcode == 0
    assert run(context, lambda: queue.put(offset)).exitcode == 0
    assert [queue.get(timeout=PATIENCE), queue.get(timeout=PATIENCE)] == [42, 40]


def test_a_subclass_with_run(context: BaseContext) -> None:
    queue: forkless.Queue[str] = forkless.Queue()

    class Greeter(context.Process):  # type: ignore[name-defined,misc]
        def __init__(self, greeting: str) -> None:
            super().__init__(name="greeter")
            self.greeting = greeting

        def run(self) -> None:
            queue.put(f"{self.greeting} from {self.name}")

    greeter = Greeter("hello")
    greeter.start()
    greeter.join()
    assert (greeter.exitcode, queue.get(timeout=PATIENCE)) == (0, "hello from greeter")


def test_default_arguments() -> None:
    process = forkless.Process()
    process.start()
    process.join()
    assert process.exitcode == 0


# --- what is refused ---


def test_a_target_that_is_not_callable_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="target must be callable, not 42"):
        forkless.Process(target=42)  # type: ignore[arg-type]


def test_misuse() -> None:
    process = forkless.Process(target=jobs.pid)
    with pytest.raises(AssertionError, match="group"):
        forkless.Process(group="me")  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match="started"):
        process.join()
    with pytest.raises(ValueError, match="not started"):
        process.terminate()
    process.start()
    with pytest.raises(AssertionError, match="twice"):
        process.start()
    with pytest.raises(AssertionError, match="already started"):
        process.daemon = True
    process.join()


def test_closing_a_running_process_is_refused() -> None:
    ready = forkless.Event()
    process = forkless.Process(target=jobs.set_and_hang, args=(ready,))
    process.start()
    assert ready.wait(PATIENCE)
    with pytest.raises(ValueError, match="still running"):
        process.close()
    process.kill()
    process.join()
    process.close()
    process.close()


def test_an_argument_that_cannot_be_sent_raises_in_start(context: BaseContext) -> None:
    process = context.Process(target=jobs.double, args=({"key": [threading.Lock()]},))
    with pytest.raises((TypeError, pickle.PicklingError), match="key"):
        process.start()
    assert process.pid is None
    assert process not in forkless.active_children()


# --- what a child finds ---


def test_relatives(context: BaseContext) -> None:
    queue: forkless.Queue[Any] = forkless.Queue()
    process = context.Process(target=jobs.relatives, args=(queue,), name="me")
    process.start()
    process.join()
    expected = ("me", process.pid, True, "MainProcess", os.getpid(), True)
    assert queue.get(timeout=PATIENCE) == expected
    assert forkless.parent_process() is None
    assert forkless.current_process().name == "MainProcess"
    assert forkless.current_process().pid == os.getpid()


def test_names_and_daemons() -> None:
    first, second = forkless.Process(), forkless.Process(name="second", daemon=True)
    assert first.name.startswith("Process-")
    assert (first.daemon, second.name, second.daemon) == (False, "second", True)
    first.name, first.daemon = "first", True
    assert "name='first'" in repr(first)
    assert repr(first).endswith("initial daemon>")
    with pytest.raises(AssertionError):
        first.name = 1  # type: ignore[assignment]


def test_a_child_has_its_parents_authentication_key(context: BaseContext) -> None:
    queue: forkless.Queue[bytes] = forkless.Queue()
    process = context.Process(target=lambda: queue.put(bytes(forkless.current_process().authkey)))
    assert process.authkey == forkless.current_process().authkey
    assert len(process.authkey) == 32
    process.authkey = b"another"
    process.start()
    process.join()
    assert queue.get(timeout=PATIENCE) == b"another"
    with pytest.raises(TypeError, match="security"):
        pickle.dumps(process.authkey)


def test_a_repr_tells_the_state(context: BaseContext) -> None:
    process = run(context, jobs.die, signal.SIGKILL)
    assert f"pid={process.pid}" in repr(process)
    assert "stopped exitcode=-SIGKILL" in repr(process)
    process.close()
    assert "closed" in repr(process)


def test_active_children() -> None:
    ready = forkless.Event()
    process = forkless.Process(target=jobs.wait_for, args=(ready,))
    process.start()
    assert process in forkless.active_children()
    ready.set()
    process.join()
    assert process not in forkless.active_children()


def test_surroundings(context: BaseContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FORKLESS_JOB", "ünïcode")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(sys, "argv", ["program", "--option"])
    monkeypatch.syspath_prepend("/nowhere")
    before = os.umask(0o027)
    try:
        found = run_and_get(context, jobs.surroundings)
    finally:
        os.umask(before)
    assert found == (str(tmp_path), "ünïcode", False, 0o027, ["program", "--option"], sys.path)


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_what_a_fork_would_have_copied(method: str) -> None:
    """Whatever the template was started with, learned before, or has itself."""
    source = f"""
import os, resource, signal, sys, time
import forkless

context = forkless.get_context({method!r})
queue = forkless.Queue()

def here():
    return (
        os.nice(0),
        sorted(os.sched_getaffinity(0)),
        resource.getrlimit(resource.RLIMIT_NOFILE),
        resource.getrlimit(resource.RLIMIT_CORE),
        sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)],
        os.getcwd(), os.environ.get("VOLATILE"), sys.path, sys.argv,
    )

def tell():
    queue.put(here())

def check():
    # The first is told something new; of the others some meet a template that has learned it meanwhile.
    for _ in range(5):
        process = context.Process(target=tell)
        process.start()
        process.join()
        found = queue.get(timeout=60)
        assert found == here(), (found, here())
        time.sleep(0.02)

check()
os.nice(3)
os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
os.environ["VOLATILE"] = "1"
check()
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 200))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
check()
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGINT])
os.chdir("/")
sys.argv.append("later")
check()
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
del os.environ["VOLATILE"]
sys.path.append("/nowhere")
check()
print("the same", end="")
"""
    assert run_program(source).check() == "the same"


def test_threads_and_exit_handlers_run_to_their_end(context: BaseContext) -> None:
    queue: forkless.Queue[str] = forkless.Queue()
    assert run(context, jobs.thread_and_exit_handler, queue).exitcode == 0
    assert [queue.get(timeout=PATIENCE), queue.get(timeout=PATIENCE)] == ["thread", "exit handler"]


def test_a_daemon_may_have_children(context: BaseContext) -> None:
    queue: forkless.Queue[int] = forkless.Queue()
    process = context.Process(target=jobs.grandparent, args=(queue,), daemon=True)
    process.start()
    process.join(PATIENCE)
    assert [queue.get(timeout=PATIENCE), queue.get(timeout=PATIENCE)] == [process.pid, 0]


def test_random_numbers_differ_between_children() -> None:
    import random

    queue: forkless.Queue[float] = forkless.Queue()
    for _ in range(2):
        assert run(forkless.get_context(), lambda: queue.put(random.random())).exitcode == 0
    assert queue.get(timeout=PATIENCE) != queue.get(timeout=PATIENCE)


def test_starting_from_a_thread(context: BaseContext) -> None:
    codes: list[int | None] = []
    thread = threading.Thread(target=lambda: codes.append(run(context, jobs.exit_with, 4).exitcode))
    thread.start()
    thread.join()
    assert codes == [4]


def test_starting_from_several_threads_at_once() -> None:
    codes: list[int | None] = []

    def start_some() -> None:
        for number in range(5):
            codes.append(run(forkless.get_context(), jobs.exit_with, number).exitcode)

    threads = [threading.Thread(target=start_some) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(int, filter(lambda code: code is not None, codes))) == sorted([*range(5)] * 4)  # type: ignore[arg-type]


# --- whole programs ---

UNGUARDED = """
import os, forkless
{method}
print("run by", os.getpid(), flush=True)
factor = 7
class Number:
    def __init__(self, value):
        self.value = value
def multiply(number, queue):
    queue.put(number.value * factor)
queue = forkless.Queue()
process = forkless.Process(target=multiply, args=(Number(6), queue))
process.start()
print("answer", queue.get(timeout=60))
process.join()
print("exit code", process.exitcode)
"""


@pytest.mark.parametrize("how", ["file", "command", "stdin"])
@pytest.mark.parametrize("method", ["", "forkless.set_start_method('spawn')"])
def test_main_runs_once_however_it_is_run(how: Any, method: str) -> None:
    lines = run_program(UNGUARDED.format(method=method), how=how).check().splitlines()
    assert [line.split()[0] for line in lines] == ["run", "answer", "exit"]
    assert lines[1:] == ["answer 42", "exit code 0"]


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
@pytest.mark.parametrize("options", [(), ("-I", "-S")])
def test_modules_are_found_where_the_parent_found_them(
    method: str, options: tuple[str, ...], tmp_path: Path
) -> None:
    for name in ("pickle", "signal", "threading"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('a file of the user')")
    outcome = run_program(
        f"""
import os, sys
sys.path.insert(0, {str(Path(forkless.__file__).parent.parent)!r})
sys.path.append({str(Path(cloudpickle.__file__).parent.parent)!r})
os.chdir({str(tmp_path)!r})
import forkless
offset = 1
def target():
    print(offset, sys.path[0] == {str(tmp_path)!r})
process = forkless.get_context({method!r}).Process(target=target)
process.start()
process.join()
""",
        python=(sys.executable, *options),
    )
    assert outcome.check() == "1 False\n"


def test_a_traceback_names_the_process_and_the_line() -> None:
    outcome = run_program("""
import forkless
def fail():
    raise KeyError("where")
process = forkless.Process(target=fail, name="clumsy")
process.start()
process.join()
print(process.exitcode)
""")
    assert outcome.check() == "1\n"
    assert "Process clumsy:\nTraceback" in outcome.stderr
    assert "KeyError: 'where'" in outcome.stderr


def test_a_message_instead_of_an_exit_code_is_written_to_standard_error() -> None:
    outcome = run_program("""
import forkless, sys
process = forkless.Process(target=sys.exit, args=("no fuel",))
process.start()
process.join()
print(process.exitcode)
""")
    assert (outcome.check(), outcome.stderr) == ("1\n", "no fuel\n")


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_output_goes_where_the_parents_goes(method: str) -> None:
    outcome = run_program(
        f"""
import forkless, sys
forkless.set_start_method({method!r})
def talk(number):
    print("out", number)
    print("err", number, file=sys.stderr)
for number in range(2):
    print("before", number)
    process = forkless.Process(target=talk, args=(number,))
    process.start()
    process.join()
""",
        stdin="not for children",
    )
    assert outcome.check() == "before 0\nout 0\nbefore 1\nout 1\n"
    assert outcome.stderr == "err 0\nerr 1\n"


def test_standard_input_is_empty_in_a_child() -> None:
    source = """
import forkless, sys
queue = forkless.Queue()
process = forkless.Process(target=lambda: queue.put(sys.stdin.read()))
process.start()
process.join()
print([queue.get(timeout=60), sys.stdin.read()])
"""
    assert run_program(source, stdin="mine").check() == "['', 'mine']\n"


def test_closed_standard_streams() -> None:
    source = """
import forkless, os, sys
os.close(0); os.close(1)
process = forkless.Process(target=print, args=("lost",))
process.start()
process.join()
sys.exit(process.exitcode)
"""
    run_program(source).check()


def test_the_exit_waits_for_children_and_ends_daemons() -> None:
    source = """
import forkless, signal, sys
ready, go = forkless.Event(), forkless.Event()
def last(go):
    go.wait(60)
    print("waited for", flush=True)
def for_ever(ready):
    ready.set()
    signal.pause()
    print("never", flush=True)
forkless.Process(target=last, args=(go,)).start()
forkless.Process(target=for_ever, args=(ready,), daemon=True).start()
assert ready.wait(60)
go.set()
"""
    outcome = run_program(source)
    assert (outcome.check(), outcome.stderr) == ("waited for\n", "")


def test_a_daemon_that_ignores_sigterm_does_not_hold_up_the_exit() -> None:
    source = """
import forkless, signal
ready = forkless.Event()
def stubborn(ready):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ready.set()
    while True:
        signal.pause()
forkless.Process(target=stubborn, args=(ready,), daemon=True).start()
assert ready.wait(60)
"""
    assert run_program(source).check() == ""


def test_ctrl_c_is_told_once() -> None:
    source = """
import forkless, signal
ready = forkless.Event()
def wait(ready):
    ready.set()
    signal.pause()
process = forkless.Process(target=wait, args=(ready,))
process.start()
assert ready.wait(60)
print("ready", flush=True)
process.join()
"""
    with Program(source) as program:
        program.wait_for("ready")
        program.interrupt()
        outcome = program.finish()
    assert outcome.exit_code == -signal.SIGINT
    assert outcome.survivors == ()
    assert outcome.stderr.count("Traceback") == 1
    assert outcome.stderr.rstrip().endswith("KeyboardInterrupt")


def test_a_program_that_ignores_ctrl_c_has_children_that_do() -> None:
    source = """
import forkless, signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
queue = forkless.Queue()
process = forkless.Process(target=lambda: queue.put(signal.getsignal(signal.SIGINT) == signal.SIG_IGN))
process.start()
print(queue.get(timeout=60))
process.join()
"""
    assert run_program(source).check() == "True\n"


def test_a_fork_by_the_user_leaves_the_parents_children_alone() -> None:
    source = """
import forkless, os, sys
go = forkless.Event()
process = forkless.Process(target=go.wait, args=(600,), daemon=True)
process.start()
if os.fork() == 0:
    sys.exit()
os.wait()
assert process.is_alive()
go.set()
process.join()
print(process.exitcode)
"""
    assert run_program(source, python=(sys.executable, "-W", "ignore")).check() == "0\n"


def test_an_interpreter_that_does_not_exist() -> None:
    source = """
import forkless
forkless.set_executable("/no/such/python")
try:
    forkless.Process().start()
except forkless.ProcessError as error:
    print("refused")
forkless.set_executable(__import__("sys").executable)
process = forkless.Process()
process.start()
process.join()
print(process.exitcode)
"""
    assert run_program(source).check() == "refused\n0\n"


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_a_proxy_of_a_manager_of_the_standard_library_works_in_a_child(method: str) -> None:
    """A library that keeps its state there need not know who starts the processes."""
    source = f"""
import multiprocessing, forkless
def work(numbers, lock):
    with lock:
        numbers.append(7)
if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Manager() as manager:
        numbers, lock = manager.list([1]), manager.Lock()
        for process in [
            forkless.get_context({method!r}).Process(target=work, args=(numbers, lock)) for _ in range(2)
        ]:
            process.start()
            process.join()
        with forkless.Pool(1) as pool:
            pool.apply(work, (numbers, lock))
        print(list(numbers))
"""
    assert run_program(source).check() == "[1, 7, 7, 7]\n"
