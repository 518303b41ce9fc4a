"""Preloaded objects: what children inherit, what they load, what stays common."""

from __future__ import annotations

import sys
import threading
from typing import Any

import forkless
import pytest
from support import run_program

IMMORTAL = sys.version_info[:2] in ((3, 12), (3, 13))

HEAD = """
import forkless, gc, os, sys
from forkless import _forkless, _inherited

class Row:
    def __init__(self, number):
        self.number, self.name = number, str(number)

def total(data):
    return sum(data)

def total_of_global():
    return sum(DATA)

def is_inherited(data):
    return any(data is each for each in _inherited.objects.values())

def own_memory():
    return _forkless.memory(os.getpid())[2]
"""


def run(source: str) -> str:
    return run_program(HEAD + source).check()


def test_children_inherit_what_was_preloaded() -> None:
    assert (
        run("""
DATA = list(range(10_000))
report = forkless.preload(DATA)
print(report.objects, report.modules, report.pid != os.getpid())
with forkless.Pool(2) as pool:
    print(pool.apply(is_inherited, (DATA,)), pool.apply(total, (DATA,)) == sum(DATA))
    print(pool.apply(total_of_global) == sum(DATA), pool.apply(lambda: is_inherited(DATA)))
    print([pool.map(is_inherited, [DATA, DATA], chunksize=size) for size in (1, 2)])
    print(pool.apply(is_inherited, kwds={"data": DATA}))
    print(pool.apply(is_inherited, (list(DATA),)))
with forkless.Executor(1) as executor:
    print(executor.submit(is_inherited, DATA).result())
queue = forkless.Queue()
child = forkless.Process(target=lambda data: queue.put(is_inherited(data)), args=(DATA,))
child.start()
print(queue.get(timeout=60))
child.join()
""")
        == "1 () True\nTrue True\nTrue True\n[[True, True], [True, True]]\nTrue\nFalse\nTrue\nTrue\n"
    )


def test_what_travels_is_a_few_bytes() -> None:
    assert (
        run("""
from forkless import _pickling
DATA = [str(n) for n in range(100_000)]
forkless.preload(DATA)
for call in ((total, (DATA,), {}), (total_of_global, (), {}), (lambda: DATA, (), {})):
    print(len(_pickling.dumps(call)[0]) < 5000)
""")
        == "True\nTrue\nTrue\n"
    )


def test_a_child_that_has_not_inherited_it_loads_it_once() -> None:
    assert (
        run("""
DATA = {"a": [1, 2, 3]}
def again(data):
    return id(data), data
with forkless.Pool(1) as before, forkless.get_context("spawn").Pool(1) as spawned:
    before.apply(abs, (-1,))
    forkless.preload(DATA)
    for pool in (before, spawned):
        first, second = (pool.apply(again, (DATA,)) for _ in range(2))
        print(first == second, first[1] == DATA)
""")
        == "True True\nTrue True\n"
    )


def test_it_comes_home_as_itself() -> None:
    assert (
        run("""
DATA = [1, 2, 3]
forkless.preload(DATA)
def give_back(data):
    return data
with forkless.Pool(1) as pool:
    print(pool.apply(give_back, (DATA,)) == DATA)
""")
        == "True\n"
    )


def test_instances_of_classes_of_the_program() -> None:
    assert (
        run("""
ROWS = [Row(number) for number in range(1000)]
forkless.preload(ROWS)
def check(rows):
    return type(rows[0]) is Row, isinstance(rows[-1], Row), sum(row.number for row in rows)
with forkless.Pool(1) as pool:
    print(pool.apply(check, (ROWS,)))
""")
        == "(True, True, 499500)\n"
    )


@pytest.mark.skipif(not IMMORTAL, reason="only 3.12 and 3.13 can make objects immortal")
def test_reading_leaves_the_pages_in_common() -> None:
    assert (
        run("""
DATA = list(range(1000, 1_001_000))
ROWS = {number: Row(number) for number in range(100_000)}
report = forkless.preload(DATA, ROWS)
print(report.immortal > 1_300_000, report.note == "")
def read_all():
    before = own_memory()
    total = sum(DATA) + sum(row.number + len(row.name) + key for key, row in ROWS.items())
    gc.collect()
    return own_memory() - before < 2_000_000
with forkless.Pool(1) as pool:
    pool.apply(own_memory)
    print(pool.apply(read_all))
""")
        == "True True\nTrue\n"
    )


@pytest.mark.skipif(IMMORTAL, reason="they do share")
def test_before_3_12_the_report_says_what_is_not_saved() -> None:
    assert (
        run("""
report = forkless.preload([1, 2])
print(report.immortal, "share()" in report.note)
""")
        == "0 True\n"
    )


class WithFinaliser:
    def __del__(self) -> None:
        pass


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ([WithFinaliser()], r"\[0\]: test_preload.WithFinaliser has a finaliser"),
        ({"key": (number for number in (1, 2))}, r"\['key'\]: builtins.generator has a finaliser"),
        (len, "no data"),
        (list, "no data"),
        (lambda: None, "no data"),
        (sys, r"preload\(modules=\[sys\]\)"),
    ],
)
def test_what_cannot_be_preloaded(given: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        forkless.preload(given)


def test_what_does_not_pickle_changes_nothing() -> None:
    with pytest.raises(TypeError, match="lock"):
        forkless.preload([threading.Lock()])
    from forkless import _pickling

    assert not _pickling.inherited


def test_a_module_that_fails_is_named() -> None:
    outcome = run_program(
        HEAD
        + """
try:
    forkless.preload(modules=["no_such_module_at_all"])
except forkless.ProcessError as error:
    print("no_such_module_at_all" in str(error))
"""
    )
    assert (outcome.exit_code, outcome.stdout) == (0, "True\n")


def test_modules_are_there() -> None:
    assert (
        run("""
import colorsys
print(forkless.preload(modules=["wave", colorsys]).modules)
with forkless.Pool(1) as pool:
    print(pool.apply(lambda: {"wave", "colorsys"} <= set(sys.modules)))
""")
        == "('wave', 'colorsys')\nTrue\n"
    )
