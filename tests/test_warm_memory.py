"""The memory that is kept for the next messages, and messages that are too large for any."""

from __future__ import annotations

from collections.abc import Callable

from support import Outcome


def test_memory_of_messages_is_kept_up_to_a_limit(run_program: Callable[..., Outcome]) -> None:
    run_program("""
import forkless as mp
from forkless._forkless import warm_memory
queue = mp.Queue()
def send(count, size):
    for _ in range(count):
        queue.put(bytes(size))
    for _ in range(count):
        queue.get()
send(4, 3_000_000)
assert 12_000_000 <= warm_memory() < 13_000_000, warm_memory()
mp.set_warm_memory(7_000_000)
assert 6_000_000 <= warm_memory() <= 7_000_000, warm_memory()
send(4, 3_000_000)
assert 6_000_000 <= warm_memory() <= 7_000_000, warm_memory()
given = mp.trim_memory()
assert 6_000_000 <= given <= 7_000_000 and warm_memory() == 0 == mp.trim_memory(), given
mp.set_warm_memory(0)
send(4, 3_000_000)
assert warm_memory() == 0
try:
    mp.set_warm_memory(-1)
except ValueError as error:
    assert "not -1" in str(error)
""").check()


def test_the_limit_is_in_the_environment(run_program: Callable[..., Outcome]) -> None:
    source = """
import forkless as mp
from forkless._forkless import warm_memory
def send(queue, count):
    for _ in range(count):
        queue.put(bytes(1_000_000))
queue = mp.Queue()
child = mp.Process(target=send, args=(queue, 8))
child.start()
child.join()
for _ in range(8):
    queue.get()
print(warm_memory())
"""
    for text, limit in (("4M", 4 << 20), ("0", 0)):
        warm = int(run_program(source, environ={"FORKLESS_WARM_MEMORY": text}).check())
        assert limit - 1_100_000 < warm <= limit
    outcome = run_program(source, environ={"FORKLESS_WARM_MEMORY": "much"})
    assert outcome.exit_code == 1
    assert "ValueError: FORKLESS_WARM_MEMORY=much is no number of bytes" in outcome.stderr


def test_what_is_too_large_is_refused_with_sizes(run_program: Callable[..., Outcome]) -> None:
    run_program("""
import resource
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
import forkless as mp
queue = mp.Queue()
data = memoryview(bytes(100_000_000))
for _ in range(2):
    try:
        queue.put([data[number:] for number in range(30)])
    except mp.SharedMemoryFull as error:
        assert isinstance(error, MemoryError) and isinstance(error, mp.ProcessError)
        assert "30000" in str(error) and "RLIMIT_AS" in str(error), error
    else:
        raise AssertionError
    queue.put(data)
    assert queue.get() == data
assert queue.empty()
""").check()


def test_what_no_machine_has_is_refused_with_sizes(run_program: Callable[..., Outcome]) -> None:
    """Twice the memory there is, as views of one megabyte."""
    run_program("""
import forkless as mp
with open("/proc/meminfo") as file:
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in file}
count = 2 * kilobytes["MemAvailable"] + 2 * kilobytes["SwapFree"] >> 10
queue, data = mp.Queue(), bytes(1 << 20)
try:
    queue.put([memoryview(data) for _ in range(min(count, 60_000))])
except mp.SharedMemoryFull as error:
    assert " bytes" in str(error), error
else:
    assert count >= 60_000
""").check()
