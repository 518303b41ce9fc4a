"""The interpreter with immortal objects: it ends as usual, and its own tests of the touched types pass.

FORKLESS_TEST_CPYTHON=all runs more of those tests, some of which take their time.
"""

from __future__ import annotations

import importlib.util
import os
import sys

import pytest
from support import run_program

pytestmark = [
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        sys.version_info[:2] not in ((3, 12), (3, 13)), reason="only 3.12 and 3.13 can make objects immortal"
    ),
]

# Checks of the allocator's, and of the interpreter's in its own functions.
DEV = (sys.executable, "-X", "dev")
DEBUG = {"PYTHONMALLOC": "debug"}

EVERYTHING = """
import array, collections, ctypes, dataclasses, datetime, decimal, enum, functools, gc, json, logging
import os, re, sys, threading, typing, weakref
import forkless
from forkless._forkless import immortalise

class Node:
    def __init__(self, parent):
        self.parent, self.lock, self.reference = parent, threading.Lock(), weakref.ref(self)

IMMORTAL = 0xFFFFFFFF
nodes = [Node(None)]
nodes += [Node(nodes[-1]) for _ in range(1000)]
data = {name: json.loads('{"a": [1, 2.5, "x", null]}') for name in map(str, range(1000))}
how = sys.argv[1]
found = gc.get_objects()
total = sum(immortalise(each, None)[0] for each in found)
assert total > 10_000, total
if how == "all":
    # Types, functions, modules, files: what preload() leaves alone.
    def count(obj):
        return ctypes.c_uint64.from_address(id(obj))
    for each in [*found, *(part for each in found for part in gc.get_referents(each))]:
        count(each).value = IMMORTAL
del nodes[0], data["1"]
gc.collect()
gc.freeze()
pid = os.fork()
if pid:
    _, status = os.waitpid(pid, 0)
    assert status == 0, status
gc.collect()
print("parent" if pid else "child", flush=True)
"""


@pytest.mark.parametrize("how", ["data", "all"])
def test_parent_and_child_end_normally_with_everything_immortal(how: str) -> None:
    outcome = run_program(EVERYTHING, how, python=DEV, environ=DEBUG, timeout=600)
    assert (outcome.check(), outcome.stderr) == ("child\nparent\n", "")


QUICK = [
    "test_int",
    "test_dict",
    "test_list",
    "test_tuple",
    "test_float",
    "test_set",
    "test_copy",
    "test_deque",
]
MORE = ["test_long", "test_str", "test_unicode", "test_bytes", "test_complex", "test_gc", "test_pickle"]
MORE += ["test_ordered_dict", "test_weakref", "test_descr", "test_dataclasses", "test_enum", "test_itertools"]

OWN_TESTS = """
import forkless, sys, unittest

class Row:
    def __init__(self, number):
        self.number, self.name = number, str(number)

DATA = [
    list(range(-1000, 100_000)), [float(n) for n in range(1000)], [str(n) for n in range(10_000)],
    [Row(n) for n in range(1000)], {n: (n, {n}, frozenset({n}), [n], b"%d" % n) for n in range(10_000)},
    ["", (), frozenset(), b"", "a", "self", "number", "__init__", "__dict__", None, True, 0, 1.0, 1j],
]

def run_tests(data, names):
    suite = unittest.defaultTestLoader.loadTestsFromNames([f"test.{name}" for name in names])
    result = unittest.TextTestRunner(verbosity=0).run(suite)
    assert sum(data[0]) == sum(range(-1000, 100_000)) and data[3][5].name == "5"
    print(result.testsRun, [str(test) for test, _ in result.failures + result.errors], flush=True)

report = forkless.preload(*DATA)
assert report.immortal > 100_000, report
child = forkless.Process(target=run_tests, args=(DATA, sys.argv[1:]))
child.start()
child.join()
print(child.exitcode)
"""


@pytest.mark.skipif(
    importlib.util.find_spec("test.test_int") is None, reason="this Python has no tests of its own"
)
def test_cpythons_own_tests_of_the_touched_types_pass() -> None:
    names = QUICK + (MORE if os.environ.get("FORKLESS_TEST_CPYTHON") == "all" else [])
    names = [name for name in names if importlib.util.find_spec(f"test.{name}") is not None]
    outcome = run_program(OWN_TESTS, *names, python=DEV, environ=DEBUG, timeout=1500)
    # Some of the tests write, too.
    *_, told, exit_code = outcome.check().splitlines()
    ran, _, failed = told.partition(" ")
    print(told)
    assert (failed, exit_code) == ("[]", "0"), outcome
    assert int(ran) > 1000
