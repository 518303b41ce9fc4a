"""What reading preloaded objects copies, kind by kind: nothing to speak of, on 3.12 and 3.13."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support import run_program

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        sys.version_info[:2] not in ((3, 12), (3, 13)), reason="only 3.12 and 3.13 can make objects immortal"
    ),
]

KINDS = '''
"""Data of many kinds, each with what reads all of it."""

import array, collections, dataclasses, datetime, decimal, enum, fractions, re, typing
import numpy

COUNT = 100_000

class Plain:
    def __init__(self, number):
        self.number, self.items = number, [number]

class Slotted:
    __slots__ = "number", "items"
    def __init__(self, number):
        self.number, self.items = number, [number]

class Rebuilt:
    """Its attributes are set by __init__, so it has no dictionary of its own."""
    def __init__(self, number):
        self.number, self.items = number, [number]
    def __reduce__(self):
        return Rebuilt, (self.number,)

class Below(dict):
    pass

@dataclasses.dataclass
class Data:
    number: int
    items: list

@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    number: int
    items: list

class Row(typing.NamedTuple):
    number: int
    items: list

class Colour(enum.Enum):
    RED = 1
    BLUE = 2

def each(make):
    return [make(number + 1000) for number in range(COUNT)]

def attributes(data):
    return sum(one.number + one.items[0] + len(one.items) for one in data)

def items(data):
    return sum(len(one) for one in data for _ in one)

def deep(data):
    return sum(part is not None for one in data for part in one)

def hashed(data):
    return sum(hash(one) != 0 and one not in {} for one in data)

def knot(number):
    links = [number]
    links.append(links)
    return links

def of_objects():
    made = numpy.empty(COUNT, object)
    made[:] = each(str)
    return made.reshape(-1, 100)

def of_records():
    made = numpy.zeros(COUNT, [("number", "i4"), ("name", "O")])
    made["name"] = each(str)
    return made

KINDS = {
    "ints": (lambda: each(lambda number: number * 1000), sum),
    "large ints": (lambda: each(lambda number: number << 100), sum),
    "floats": (lambda: each(float), sum),
    "complex": (lambda: each(complex), sum),
    "text": (lambda: each(str), hashed),
    "text that is not ASCII": (lambda: each(lambda number: f"é{number}"), hashed),
    "bytes": (lambda: each(lambda number: b"%d" % number), hashed),
    "tuples": (lambda: each(lambda number: (number, str(number))), hashed),
    "lists": (lambda: each(lambda number: [number, str(number)]), deep),
    "dicts": (lambda: each(lambda number: {"number": number, "name": str(number)}),
              lambda data: sum(one["number"] + len(one["name"]) for one in data)),
    "a large dict": (lambda: {str(number): [number] for number in range(COUNT)},
                     lambda data: sum(data[name][0] for name in data)),
    "a dict by numbers": (lambda: {number * 1000: (number,) for number in range(COUNT)},
                          lambda data: sum(key + value[0] for key, value in data.items())),
    "sets": (lambda: each(lambda number: {number, str(number)}), deep),
    "a large set": (lambda: set(each(str)), lambda data: sum(one in data for one in data)),
    "frozen sets": (lambda: each(lambda number: frozenset((number, str(number)))), deep),
    "instances": (lambda: each(Plain), attributes),
    "instances with slots": (lambda: each(Slotted), attributes),
    "instances without a dict": (lambda: each(Rebuilt), attributes),
    "instances of a dict": (lambda: each(lambda number: Below(number=number)), items),
    "dataclasses": (lambda: each(lambda number: Data(number, [number])), attributes),
    "frozen dataclasses": (lambda: each(lambda number: Frozen(number, [number])), attributes),
    "named tuples": (lambda: each(lambda number: Row(number, [number])), attributes),
    "deques": (lambda: each(lambda number: collections.deque([number, str(number)], 5)), deep),
    "ordered dicts": (lambda: each(lambda number: collections.OrderedDict(number=number)), items),
    "default dicts": (lambda: each(lambda number: collections.defaultdict(list, number=[number])), items),
    "a counter": (lambda: collections.Counter(each(str)), lambda data: data.total()),
    "dates": (lambda: each(lambda number: datetime.datetime(2000, 1, 1) + datetime.timedelta(number)),
              lambda data: sum(one.day for one in data)),
    "decimals": (lambda: each(decimal.Decimal), sum),
    "fractions": (lambda: each(lambda number: fractions.Fraction(number, 7)),
                  lambda data: sum(one.numerator for one in data)),
    "members of an enum": (lambda: [Colour(1 + number % 2) for number in range(COUNT)],
                           lambda data: sum(one.value for one in data)),
    "patterns": (lambda: [re.compile(f"{number}+") for number in range(300)] * 100,
                 lambda data: sum(bool(one.match("0")) for one in data)),
    "arrays": (lambda: [numpy.arange(number % 7) for number in range(COUNT)],
               lambda data: sum(len(one) for one in data)),
    "an array of objects": (of_objects, lambda data: sum(len(one) for row in data for one in row)),
    "an array of records": (of_records, lambda data: sum(len(one["name"]) for one in data)),
    "arrays of numbers": (lambda: each(lambda number: array.array("i", [number])),
                          lambda data: sum(one[0] for one in data)),
    "cycles": (lambda: each(knot), lambda data: sum(one[1][0] for one in data)),
    "bound methods": (lambda: each(lambda number: Slotted(number).__eq__),
                      lambda data: sum(one.__self__.number for one in data)),
}
'''

SOURCE = """
import sys
sys.path.insert(0, sys.argv[1])
import forkless, gc, json, os
from forkless import _forkless, _inherited
from kinds import KINDS

def private():
    return _forkless.memory(os.getpid())[3]

def read(name, data, queue):
    # By reference, so that the code is not loaded for each.
    from kinds import KINDS
    read_all = KINDS[name][1]
    read_all(type(data)() if isinstance(data, (dict, set)) else data[:10])
    gc.collect()
    before = private()
    result = read_all(data)
    gc.collect()
    queue.put((private() - before, result == read_all(data)))

data = {name: make() for name, (make, _) in KINDS.items()}
report = forkless.preload(*data.values(), modules=["kinds"])
assert report.immortal > 5_000_000, report
queue = forkless.SimpleQueue()
for name in KINDS:
    expected = KINDS[name][1](data[name])
    child = forkless.Process(target=read, args=(name, data[name], queue))
    child.start()
    child.join()
    grown, same = queue.get(timeout=60)
    if grown > 2_000_000 or not same:
        print(name, grown, same)
"""


def test_reading_each_kind_of_object_leaves_its_pages_in_common(tmp_path: Path) -> None:
    (tmp_path / "kinds.py").write_text(KINDS)
    assert run_program(SOURCE, str(tmp_path), timeout=600).check() == ""


MODULE = """
class Model:
    def __init__(self):
        self.weights = [float(number) for number in range(1_000_000)]

numbers = list(range(1000, 2_001_000))
model = Model()
"""

OF_MODULES = """
import sys
sys.path.insert(0, sys.argv[1])
import forkless, os
from forkless import _forkless

def read(queue):
    from loaded import data
    before = _forkless.memory(os.getpid())[3]
    total = sum(data.numbers) + sum(data.model.weights)
    queue.put((total, _forkless.memory(os.getpid())[3] - before))

report = forkless.preload(modules=["loaded"])
assert report.immortal > 3_000_000, report
assert "loaded" not in sys.modules
queue = forkless.SimpleQueue()
child = forkless.Process(target=read, args=(queue,))
child.start()
child.join()
total, grown = queue.get(timeout=60)
assert total == sum(range(1000, 2_001_000)) + sum(range(1_000_000))
assert grown < 2_000_000, grown
"""


def test_what_modules_load_is_in_common_too(tmp_path: Path) -> None:
    """In a module of the package that is named, and never in the main process."""
    (tmp_path / "loaded").mkdir()
    (tmp_path / "loaded" / "__init__.py").write_text("from . import data")
    (tmp_path / "loaded" / "data.py").write_text(MODULE)
    run_program(OF_MODULES, str(tmp_path), timeout=600).check()
