"""What travels by value: real programs, each with children at the other end of a pipe; see `receiver`."""

from __future__ import annotations

import copyreg
import ctypes
import gc
import importlib.util
import json
import os.path
import pickle
import subprocess
import sys
import textwrap
import threading
import types
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from forkless import _pickling
from forkless._forkless import Event, Lock, SharedBuffer
from forkless._pickling import PicklingError, dumps, loads
from hypothesis import given
from hypothesis import strategies as st
from support import Outcome, run_program

HERE = Path(__file__).parent


@pytest.fixture
def run(run_program: Callable[..., Outcome]) -> Callable[..., str]:
    """Runs a program that may use `Child`; returns what it wrote."""

    def run(source: str, **options: Any) -> str:
        text = "from receiver import Child\n" + textwrap.dedent(source)
        environ = {"PYTHONPATH": str(HERE), **options.pop("environ", {})}
        outcome = run_program(text, environ=environ, **options)
        assert not outcome.stderr, f"{outcome}"
        return outcome.check()

    return run


# --- by reference -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "obj",
    [
        os.path.join,
        (1, "a", 2.0),
        {"a": [b"b", None]},
        len,
        int,
        Path,
        Path("a"),
        subprocess.Popen.wait,
        [].append,
    ],
    ids=repr,
)
def test_what_can_be_imported_pickles_as_with_the_standard_library(obj: object) -> None:
    assert dumps(obj) == (pickle.dumps(obj, 5), [])


def test_ordinary_arguments_load_nothing(run: Callable[..., str]) -> None:
    run("""
        import os.path, sys
        from forkless._pickling import dumps
        dumps((os.path.join, (len, int), {"a": 1}))
        assert not {"cloudpickle", "forkless._byvalue", "numpy"} & set(sys.modules)
    """)


plain_data = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text(), inner)
        | st.tuples(inner, inner)
        | st.frozensets(st.text())
    ),
)


@given(plain_data)
def test_plain_data_comes_back_equal(data: object) -> None:
    payload, handles = dumps(data)
    assert loads(payload) == data
    assert handles == []


@pytest.mark.parametrize("size", [10, 70_000, 3_000_000])
def test_data_of_any_size(size: int) -> None:
    data = {"bytes": b"x" * size, "array": bytearray(size), "text": "ä" * size}
    assert loads(dumps(data)[0]) == data


class Registered:
    def __init__(self, value: int) -> None:
        self.value = value


def test_reducers_registered_with_copyreg_apply(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(copyreg.dispatch_table, Registered, lambda obj: (Registered, (obj.value + 1,)))
    assert loads(dumps(Registered(1))[0]).value == 2


def test_reducers_registered_for_multiprocessing_apply(monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch registers its tensors."""
    from multiprocessing.reduction import ForkingPickler

    reducers: dict[type, Any] = ForkingPickler._extra_reducers  # type: ignore[attr-defined]
    monkeypatch.setitem(reducers, Registered, lambda obj: (Registered, (obj.value + 2,)))
    assert loads(dumps(Registered(1))[0]).value == 3


# --- shared objects -----------------------------------------------------------------------------------


def test_shared_objects_are_handed_over_as_handles() -> None:
    lock, event = Lock(), Event()
    payload, handles = dumps({"a": [lock, event], "b": lock})
    assert handles == [lock, event]
    assert loads(payload)["a"][0].handle == lock.handle


def test_shared_objects_among_the_globals_of_a_function(run: Callable[..., str]) -> None:
    """Also when the definition was pickled for an earlier message and is only sent again."""
    run("""
        from forkless._forkless import Lock
        from forkless._pickling import dumps
        lock, other = Lock(), Lock()
        def use(): return lock
        class C:
            lock = other
            def use(self): return use()
        for _ in range(3):
            assert dumps(use)[1] == [lock]
            assert sorted(map(id, dumps([C(), use])[1])) == sorted(map(id, [lock, other]))
            assert dumps(lambda: use())[1] == [lock]
    """)


def test_a_memoryview_of_a_shared_buffer_travels_as_a_handle() -> None:
    shared = SharedBuffer(b"x" * 100_000)
    payload, handles = dumps(memoryview(shared))
    assert len(payload) < 200
    assert handles == [shared]
    assert loads(payload).readonly
    part, handles = dumps(memoryview(shared)[50_000:])
    assert len(part) < 300
    assert handles == [shared]
    assert loads(part) == b"x" * 50_000
    assert loads(part).readonly


# --- `__main__` ---------------------------------------------------------------------------------------

MAIN = """
print("runs")
K = 3
def f(x):
    return x * K, __name__
class C:
    def __init__(self, v): self.v = v
with Child() as child:
    assert child(f, 2) == (6, "__main__")
    back = child(lambda c: c, C(1))
    assert type(back) is C and back.v == 1
"""


@pytest.mark.parametrize("how", ["file", "command", "stdin"])
def test_main_is_not_run_again_however_it_was_started(run: Callable[..., str], how: str) -> None:
    assert run(MAIN, how=how) == "runs\n"


def test_main_of_a_package(tmp_path: Path, run_program: Callable[..., Outcome]) -> None:
    """Started with -m, so that functions use relative imports."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "other.py").write_text("VALUE = 7\n")
    (package / "__main__.py").write_text(
        "from receiver import Child\n"
        "print('runs')\n"
        "def f():\n    from .other import VALUE\n    return VALUE\n"
        "with Child() as child: assert child(f) == 7\n"
    )
    environ = {"PYTHONPATH": f"{HERE}{os.pathsep}{tmp_path}"}
    source = "import runpy; runpy.run_module('package', run_name='__main__', alter_sys=True)"
    assert run_program(source, environ=environ).check() == "runs\n"
    done = subprocess.run(
        [sys.executable, "-m", "package"],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "runs\n"


def test_the_main_of_a_child_is_empty_and_has_its_parents_name_and_file(run: Callable[..., str]) -> None:
    run("""
        import sys
        secret = 1
        def look():
            main = sys.modules["__main__"]
            names = sorted(name for name in vars(main) if name[0] != "_")
            return __name__, main.__name__, main.__file__ == __file__, names
        with Child() as child:
            assert child(look) == ("__main__", "__main__", True, ["look", "sys"])
    """)


# --- functions ----------------------------------------------------------------------------------------

FUNCTIONS = {
    "recursive": """
        def fact(n): return 1 if n < 2 else n * fact(n - 1)
        assert child(fact, 5) == 120
    """,
    "recursive in a closure": """
        def make():
            def fact(n): return 1 if n < 2 else n * fact(n - 1)
            return fact
        assert child(make(), 5) == 120
    """,
    "mutually recursive": """
        def even(n): return n == 0 or odd(n - 1)
        def odd(n): return n != 0 and even(n - 1)
        assert child(even, 10) is True
    """,
    "a long chain of calls": """
        for n in range(1500):
            exec(f"def f{n + 1}(): return f{n}")
        def f0(): return "end"
        assert child(f1500).__name__ == "f1499"
    """,
    "lambda": "assert child(lambda x, *, y=2: x + y, 1) == 3",
    "defaults": """
        def f(a, b=[1], *, c={"d": 2}): return a + b[0] + c["d"]
        assert child(f, 1) == 4
    """,
    "decorated": """
        import functools
        def plus_one(f):
            @functools.wraps(f)
            def wrapper(*args): return f(*args) + 1
            return wrapper
        K = 2
        @plus_one
        def f(x): return x + K
        assert child(f, 1) == 4
        assert child(plus_one(f), 1) == 5
        assert child(lambda: f.__wrapped__(1)) == 3
    """,
    "cached": """
        import functools
        @functools.lru_cache(maxsize=7)
        def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
        assert child(fib, 50) == 12586269025
        assert child(lambda: fib.cache_info().maxsize) == 7
        assert child(lambda: fib.cache_info().currsize) == 7, "the same object in both messages"
    """,
    "single dispatch": """
        import functools
        @functools.singledispatch
        def kind(x): return "object"
        @kind.register
        def _(x: int): return "int"
        assert child(kind, 1) == "int" and child(kind, "") == "object"
    """,
    "context manager": """
        import contextlib
        @contextlib.contextmanager
        def manager(): yield 5
        def use():
            with manager() as value: return value
        assert child(use) == 5
    """,
    "generator and coroutine functions": """
        def numbers(): yield from range(3)
        async def answer(): return 42
        def both():
            import asyncio
            return list(numbers()), asyncio.run(answer())
        assert child(both) == ([0, 1, 2], 42)
    """,
    "partial": """
        import functools
        def f(a, b): return a - b
        assert child(functools.partial(f, b=1), 3) == 2
    """,
    "cells shared by two closures": """
        def counter():
            n = 0
            def up():
                nonlocal n; n += 1
            def get(): return n
            return up, get
        def use(up, get):
            up(); up()
            return get()
        assert child(use, *counter()) == 2
    """,
    "an empty cell": """
        def make():
            def f(x):
                if x: return later
                return "fine"
            return f
            later = 1
        assert child(make(), False) == "fine"
    """,
    "a submodule reached through its package": """
        import xml
        import xml.etree.ElementTree
        def tag(): return xml.etree.ElementTree.fromstring("<a/>").tag
        def make(package):
            return lambda: package.etree.ElementTree.fromstring("<b/>").tag
        assert child(tag) == "a" and child(make(xml)) == "b"
    """,
    "a global used in a class body within a function": """
        K = 3
        def f():
            class C: z = K
            return C.z
        assert child(f) == 3
    """,
    "attributes of functions": """
        def f(): return f.calls
        f.calls = 4
        assert child(f) == 4
    """,
    "annotations, names and documentation": """
        class T: pass
        def f(x: T, y: "int" = 1) -> T: 'doc'
        def look(): return f.__annotations__["x"] is T, f.__doc__, f.__qualname__, f.__module__
        assert child(look) == (True, "doc", "f", "__main__")
        assert child(lambda: f.__code__.co_filename) == __file__
    """,
    "code run by exec": """
        space = {"k": 5}
        exec("def f(x): return x + k", space)
        assert child(space["f"], 1) == 6
    """,
    "a name that is not in its module any more": """
        def f(): return 1
        old = f
        def f(): return 2
        assert child(old) == 1 and child(f) == 2
    """,
    "standard output": """
        import sys
        out = sys.stdout
        def is_own(): return out is sys.stdout
        assert child(is_own)
    """,
    "a module as an argument, and __main__ itself": """
        import os.path, __main__
        assert child(lambda m: m.join("a", "b"), os.path) == "a/b"
        assert child(lambda: vars(__main__) is globals())
    """,
    "a class attribute that is a function": """
        class C:
            @staticmethod
            def s(x): return x + 1
            @classmethod
            def c(cls): return cls.__name__
            def m(self): return self.v
        c = C(); c.v = 3
        assert (child(C.s, 1), child(C.c), child(c.m), child(C.m, c)) == (2, "C", 3, 3)
    """,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(cells: dict[str, str], name: str) -> None:
    assert not cells[name], cells[name]


def test_a_function_is_the_same_object_each_time_and_comes_home_as_itself(run: Callable[..., str]) -> None:
    run("""
        def f(): pass
        def check():
            import pickle, sys
            main = sys.modules["__main__"]
            return main.f is f and pickle.loads(pickle.dumps(f)) is f
        with Child() as child:
            assert child(lambda g: g, f) is f
            assert child(check) and child(check)
            back = child(lambda: lambda: f)
            assert back() is f and back.__globals__ is globals()
    """)


def test_functions_of_modules_that_can_be_imported_use_the_modules_globals(
    run: Callable[..., str], tmp_path: Path
) -> None:
    """Nothing of the module travels: its lock would be refused."""
    (tmp_path / "library.py").write_text(
        "import threading\nlock = threading.Lock()\nstate = []\n"
        "def make(k):\n"
        "    def inner(x):\n        with lock: state.append(x)\n        return len(state) * k\n"
        "    return inner\n"
        "short = lambda: lock.locked()\n"
        "def local():\n    class Local:\n        def get(self): return len(state)\n    return Local\n"
    )
    run(
        """
        import library
        with Child() as child:
            assert child(library.make(10), 1) == 10
            assert child(library.make(10), 1) == 20
            assert child(library.short) is False
            C = library.local()
            assert child(C().get) == 2 and type(child(lambda c: c, C())) is C
        """,
        environ={"PYTHONPATH": f"{HERE}{os.pathsep}{tmp_path}"},
    )


def test_modules_loaded_from_places_where_others_do_not_find_them(
    run: Callable[..., str], tmp_path: Path
) -> None:
    plugin = tmp_path / "a plugin.py"
    plugin.write_text("K = 2\ndef f(x): return x * K\nclass C:\n    def get(self): return f(5)\n")
    run(f"""
        import importlib.util, sys, types
        spec = importlib.util.spec_from_file_location("plugin", {str(plugin)!r})
        plugin = importlib.util.module_from_spec(spec)
        sys.modules["plugin"] = plugin
        spec.loader.exec_module(plugin)
        made = sys.modules["made"] = types.ModuleType("made")
        exec("J = 1\\ndef g(): return J\\nclass D: pass", vars(made))
        with Child() as child:
            assert child(plugin.f, 3) == 6
            c = plugin.C()
            assert child(c.get) == 10
            assert type(child(lambda c: c, c)) is plugin.C
            assert child(made.g) == 1 and type(child(lambda d: d, made.D())) is made.D
    """)


# --- classes ------------------------------------------------------------------------------------------

CLASSES = {
    "plain": """
        class C:
            def __init__(self, v): self.v = v
            def __eq__(self, other): return type(other) is C and other.v == self.v
        there_and_back(C(1))
    """,
    "inheritance and super()": """
        class A:
            def get(self): return 1
        class B(A):
            def get(self): return super().get() + 1
        there_and_back(B(), equal=False)
        assert child(B().get) == 2
    """,
    "nested": """
        class A:
            class B:
                def get(self): return A.B
        there_and_back(A.B(), equal=False)
        assert child(A.B().get) is A.B
    """,
    "local": """
        def make():
            class Local:
                def me(self): return Local
            return Local
        Local = make()
        back = child(lambda c: c, Local())
        assert type(back) is Local and child(Local().me) is Local
    """,
    "dynamic": """
        C = type("Other", (dict,), {"k": 4})
        assert type(child(lambda c: c, C(a=1))) is C and child(lambda c: c.k, C()) == 4
    """,
    "exception": """
        class E(Exception):
            def __init__(self, a, b): super().__init__(a, b); self.b = b
        def fail(): raise E(1, 2)
        try: child(fail)
        except E as error: assert error.b == 2
        else: raise AssertionError
    """,
    "enum": """
        import enum
        class Color(enum.Enum):
            RED = 1
            BLUE = 2
            def title(self): return self.name.title()
        class Flags(enum.Flag):
            A = enum.auto(); B = enum.auto()
        class Text(str, enum.Enum):
            X = "x"
        class Planet(enum.Enum):
            EARTH = (1, 2)
            def __init__(self, a, b): self.a, self.b = a, b
        assert child(lambda c: c, Color.BLUE) is Color.BLUE
        assert child(lambda c: c, Flags.A | Flags.B) is Flags.A | Flags.B
        assert child(lambda c: c, Text.X) is Text.X
        assert child(lambda c: c, Planet.EARTH) is Planet.EARTH
        assert child(Color.RED.title) == "Red"
        def look(): return Planet.EARTH.b, Planet((1, 2)) is Planet.EARTH, list(Color)[1] is Color.BLUE
        assert child(look) == (2, True, True)
    """,
    "dataclass": """
        import dataclasses
        @dataclasses.dataclass
        class D:
            x: int = 1
            y: list = dataclasses.field(default_factory=list)
        @dataclasses.dataclass(frozen=True, slots=True, order=True)
        class S:
            x: int
        there_and_back(D(2, [3])); there_and_back(S(1))
        assert child(lambda: D(5)) == D(5)
        assert child(lambda: dataclasses.replace(S(1), x=2) > S(1))
        def look(): return [field.default is dataclasses.MISSING for field in dataclasses.fields(D)]
        assert child(look) == [False, True]
        def derive():
            @dataclasses.dataclass
            class E(D):
                z: int = 9
            return dataclasses.astuple(E())
        assert child(derive) == (1, [], 9)
    """,
    "named tuple": """
        import collections, typing
        P = collections.namedtuple("P", "a b", defaults=[2])
        class N(typing.NamedTuple):
            a: int
            b: str = "q"
            def both(self): return f"{self.a}{self.b}"
        there_and_back(P(1)); there_and_back(N(1))
        assert child(N(1).both) == "1q" and child(lambda: P(1)._replace(b=3)) == (1, 3)
    """,
    "slots": """
        class C:
            __slots__ = ("a", "__weakref__")
            def __eq__(self, other): return self.a == other.a
        c = C(); c.a = 1
        there_and_back(c)
    """,
    "properties": """
        import functools
        class C:
            def __init__(self): self.calls = 0
            @property
            def p(self): return 1
            @p.setter
            def p(self, value): self.set = value
            @functools.cached_property
            def q(self): self.calls += 1; return self.calls
        def use(c):
            c.p = 5
            return c.p, c.set, c.q, c.q
        assert child(use, C()) == (1, 5, 1, 1)
    """,
    "abstract": """
        import abc
        class A(abc.ABC):
            @abc.abstractmethod
            def get(self): ...
        class B(A):
            def get(self): return 1
        class V: pass
        def look():
            try: A()
            except TypeError: return isinstance(V(), A), B().get()
        assert child(look) == (False, 1)
        A.register(V)
        assert child(look) == (True, 1)
    """,
    "metaclass": """
        class Meta(type):
            def __new__(meta, name, bases, body, *, tag):
                return super().__new__(meta, name, bases, body | {"tag": tag})
            def __init__(cls, name, bases, body, *, tag): super().__init__(name, bases, body)
            def __call__(cls): made = super().__call__(); made.extra = cls.tag; return made
            def shout(cls): return cls.tag.upper()
        class C(metaclass=Meta, tag="t"): pass
        assert child(lambda c: (c.extra, type(c).shout(), type(c)().extra), C()) == ("t", "T", "t")
        assert type(type(child(lambda c: c, C()))) is Meta
    """,
    "registered by its base class": """
        class Base:
            kinds = []
            def __init_subclass__(cls, *, tag): cls.tag = tag; Base.kinds.append(cls)
        class A(Base, tag="a"): pass
        class B(Base, tag="b"): pass
        def look(b): return [(kind.tag, kind is type(b)) for kind in Base.kinds]
        assert child(look, B()) == [("a", False), ("b", True)]
        assert child(lambda: [k.tag for k in Base.kinds]) == ["a", "b"]
        class C(Base, tag="c"): pass
        assert child(lambda c: [k.tag for k in Base.kinds], C()) == ["a", "b", "c"]
        assert [k.tag for k in Base.kinds] == ["a", "b", "c"]
    """,
    "generic": """
        import typing
        T = typing.TypeVar("T", bound=int)
        P = typing.ParamSpec("P")
        Id = typing.NewType("Id", int)
        class G(typing.Generic[T]):
            def __init__(self, x: T) -> None: self.x = x
            def map(self, f: typing.Callable[P, T]) -> "G[T]": return G(f(self.x))
        there_and_back(G[int](3), equal=False)
        assert child(lambda: G.__parameters__ == (T,) and T.__bound__ is int and Id(3) == 3)
        assert child(lambda: T) is T and child(lambda: Id) is Id and child(lambda: P) is P
        assert child(lambda x: x, typing.Optional[G[int]]) == typing.Optional[G[int]]
        assert child(lambda x: x, list[G]) == list[G]
        class Shape(typing.Protocol):
            def area(self) -> float: ...
        class Square:
            def area(self): return 1.0
        checked = typing.runtime_checkable(Shape)
        assert child(lambda: isinstance(Square(), checked))
    """,
    "typed dictionary": """
        import typing
        class D(typing.TypedDict, total=False):
            a: int
        assert child(lambda: (D(a=1), sorted(D.__annotations__), D.__total__)) == ({"a": 1}, ["a"], False)
    """,
    "callable, hashable, comparable, context manager": """
        class C:
            def __call__(self): return 1
            def __hash__(self): return 7
            def __eq__(self, other): return isinstance(other, C)
            def __enter__(self): return 2
            def __exit__(self, *error): pass
        def use(c, s):
            with c as value: return c(), value, C() in s
        assert child(use, C(), {C()}) == (1, 2, True)
        assert child(C()) == 1
    """,
    "a constant found by name": """
        class Kind:
            def __init__(self, name): self.name = name
            def __reduce__(self): return self.name
        NONE = Kind("NONE")
        assert child(lambda k: k, NONE) is NONE
        assert child(lambda k: k is NONE, NONE)
    """,
    "slots and cells of its own": """
        class C:
            def me(self): return __class__
            nested = [lambda: C]
        assert child(C().me) is C and child(lambda: C.nested[0]() is C)
    """,
    "types of the interpreter": """
        import types
        kinds = [types.FunctionType, types.GeneratorType, types.SimpleNamespace, types.CellType, type(None)]
        assert child(lambda k: k, kinds) == kinds
    """,
}


@pytest.mark.parametrize("name", CLASSES)
def test_classes(cells: dict[str, str], name: str) -> None:
    assert not cells[name], cells[name]


@pytest.fixture(scope="session")
def cells() -> dict[str, str]:
    """What went wrong in each of the pieces above, run in one program, one after the other: a notebook."""
    program = """
    import json, sys, traceback
    from receiver import Child
    def check(obj):
        import pickle
        return type(pickle.loads(pickle.dumps(obj))) is type(obj)
    def there_and_back(obj, equal=True):
        back = child(lambda o: o, obj)
        assert type(back) is type(obj) and (not equal or back == obj)
        assert child(check, obj), "plain pickle finds the class in the child"
        assert child(lambda: lambda: type(obj))() is type(obj)
    results, child = {}, Child()
    for name, source in json.load(sys.stdin).items():
        results[name] = ""
        try:
            exec(compile(source, __file__, "exec"))
        except BaseException:
            results[name] = traceback.format_exc()
            child.__exit__()
            child = Child()
    child.__exit__()
    print(json.dumps(results))
    """
    pieces = {name: textwrap.dedent(source) for name, source in (FUNCTIONS | CLASSES).items()}
    outcome = run_program(
        textwrap.dedent(program), stdin=json.dumps(pieces), environ={"PYTHONPATH": str(HERE)}
    )
    results: dict[str, str] = json.loads(outcome.check())
    return results


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the syntax for type parameters is new in Python 3.12")
def test_type_parameters(run: Callable[..., str]) -> None:
    run("""
        class Box[T: int]:
            def __init__(self, x: T): self.x = x
            def get(self) -> T: return self.x
        type Boxes = list[Box[int]]
        def first[T](boxes: list[T]) -> T: return boxes[0]
        with Child() as child:
            assert type(child(first, [Box[int](3)])) is Box and child(Box(4).get) == 4
            assert child(lambda: Box.__type_params__[0].__bound__) is int
            assert child(lambda: Boxes) is Boxes
    """)


def test_a_class_coming_home_changes_nothing_there(run: Callable[..., str]) -> None:
    run("""
        class C:
            n = 5
        def change(c, n):
            C.n = n
            C.added = n
            return c, C.n
        with Child() as child:
            early = Child.pack(change, C(), 0)
            C.n = 6
            assert child.deliver(early)[1] == 0
            back, there = child(change, C(), 7)
            assert (C.n, back.n, there, hasattr(C, "added")) == (6, 6, 7, False)
    """)


def test_attributes_of_a_class_follow_the_parent_only_when_it_changes_them(run: Callable[..., str]) -> None:
    run("""
        class C:
            n = 5
            seen = []
            def look(self): C.seen.append(self.n); return list(C.seen)
        with Child() as child:
            assert child(C().look) == [5]
            assert child(C().look) == [5, 5], "the child's own list is kept"
            C.n = 6
            assert child(C().look) == [6], "another definition: everything as at home"
            C.more = 1
            assert child(lambda: C.more) == 1
            del C.more
            assert child(lambda: hasattr(C, "more")) is False
            C.look = lambda self: "new"
            assert child(lambda: C().look()) == "new"
    """)


def test_a_class_defined_again_is_another_class(run: Callable[..., str]) -> None:
    """As in a notebook."""
    run("""
        class C: v = 1
        old = C()
        def look(c): return c.v, type(c) is C
        with Child() as child:
            assert child(look, old) == (1, True)
            class C: v = 2
            assert child(look, C()) == (2, True)
            assert child(look, old) == (1, False)
            assert type(child(lambda c: c, old)) is type(old)
    """)


# --- global variables ---------------------------------------------------------------------------------


def test_an_initializer_sets_globals_for_the_tasks(run: Callable[..., str]) -> None:
    run("""
        lock = None
        cache = {}
        def initialize(value):
            global lock, unknown
            lock = unknown = value
        def task(x):
            cache[x] = 1
            return lock, unknown, len(cache)
        with Child() as child:
            child(initialize, 7)
            assert child(task, 1) == (7, 7, 1)
            assert child(task, 2) == (7, 7, 2)
        assert lock is None and not cache
    """)


def test_globals_follow_the_parent(run: Callable[..., str]) -> None:
    run("""
        K, L, M = 3, [1], (1, [2])
        def f(x): return x * K, L, M
        with Child() as child:
            assert child(f, 2) == (6, [1], (1, [2]))
            K = 10; L.append(2); M[1].append(3)
            assert child(f, 2) == (20, [1, 2], (1, [2, 3]))
            K = True
            assert child(lambda: K) is True
            del K
            def g(): return "K" in globals()
            def h(): return K
            assert child(g) is True, "what is not sent is not taken away"
            def K(): return "now a function"
            assert child(h)() == "now a function"
    """)


def test_a_message_finds_things_as_they_were_when_it_was_sent(run: Callable[..., str]) -> None:
    """When a task is retried, newer ones have already been there."""
    run("""
        K = 1
        class C: n = 1
        def f(): return K, C.n
        with Child() as child:
            first = Child.pack(f)
            K = C.n = 2
            second = Child.pack(f)
            answers = [child.deliver(message) for message in (first, second, first, second)]
            assert answers == [(1, 1), (2, 2), (1, 1), (2, 2)]
    """)


def test_the_child_sees_the_same_globals_whatever_the_parent_does(run: Callable[..., str]) -> None:
    run("""
        import random
        values = {"a": 1, "b": [1], "c": None}
        a, b, c = 1, [1], None
        def helper(): return b
        def look(): return a, helper(), c and c()
        choices = random.Random(4711)
        with Child() as child, Child() as other:
            for step in range(300):
                match choices.randrange(6):
                    case 0: a = choices.choice([1, 1.0, True, "x", (), (1,), 0])
                    case 1: b = choices.choice([a, [step], b])
                    case 2: b = [*b, step] if isinstance(b, list) else []
                    case 3: c = lambda step=step: (step, a)
                    case 4:
                        def helper(k=step): return (k, b)
                    case 5: c = choices.choice([helper, None])
                expected = look()
                found = choices.choice([child, other])(look)
                assert found == expected and type(found[0]) is type(expected[0]), (step, found, expected)
    """)


def test_objects_that_are_one_stay_one(run: Callable[..., str]) -> None:
    run("""
        MISSING = object()
        registry = {}
        class Database:
            def read(self): return self
        class Service:
            shared = registry
            def __init__(self, database): self.database = database
        database = Database()
        service = Service(database)
        read = database.read
        def default(x=MISSING, *, y=registry): return x is MISSING, y is registry
        def same(): return service.database is database, read() is database, Service.shared is registry
        def closure():
            kept = registry
            def inner(): return kept is registry
            return inner
        inner = closure()
        with Child() as child:
            assert child(default) == (True, True)
            assert child(same) == (True, True, True)
            assert child(inner) and child(closure())
            assert child(lambda x=MISSING: x is MISSING)
    """)


def test_arguments_are_copies_also_of_globals(run: Callable[..., str]) -> None:
    run("""
        config = [1]
        def f(given): given.append(2); return given, config
        with Child() as child:
            assert child(f, config) == ([1, 2], [1])
    """)


def test_large_globals_bring_a_warning(run: Callable[..., str]) -> None:
    run("""
        import warnings
        from forkless._byvalue import LargeGlobalWarning
        table = list(range(1_000_000))
        def work(x): return table[x]
        with Child() as child, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert child(work, 5) == 5
            table[5] = 6
            assert child(work, 5) == 6
        assert {w.category for w in caught} == {LargeGlobalWarning}
        assert all(w.filename.endswith("receiver.py") for w in caught), "the first caller outside of forkless"
        text = str(caught[0].message)
        assert text.startswith("work takes ") and "'table'" in text
        assert "share(" in text and "initializer" in text
    """)


def test_large_closures_bring_a_warning(run: Callable[..., str]) -> None:
    run("""
        import warnings
        from forkless._byvalue import LargeGlobalWarning
        from forkless._pickling import dumps
        def make():
            table = b"x" * 2_000_000
            return lambda x: table[x]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            dumps((make(), [1]))
            dumps((make(), [1]))
            dumps((lambda: 1, b"x" * 2_000_000))
        [warning] = caught
        assert warning.category is LargeGlobalWarning and warning.filename == __file__
        assert str(warning.message).startswith("make.<locals>.<lambda> takes 2.0 MB along")
    """)


# --- several processes --------------------------------------------------------------------------------


def test_grandchildren(run: Callable[..., str]) -> None:
    run("""
        K = 3
        class C:
            n = 1
            def get(self): return self.n * K
        class E(Exception): pass
        def innermost(c): return c, type(c) is C, c.get(), __name__
        def fail(): raise E("from below")
        def nested(c):
            from receiver import Child
            global K
            with Child() as child:
                first = child(innermost, c)
                K = 5
                second = child(innermost, c)
                try: child(fail)
                except E as error: third = error
            return first, second, third, type(first[0]) is C
        with Child() as child:
            first, second, third, same = child(nested, C())
            assert same and type(third) is E
            assert first[1:] == (True, 3, "__main__") and second[1:] == (True, 5, "__main__")
            assert type(first[0]) is type(second[0]) is C and K == 3
    """)


def test_what_goes_home_leaves_its_definition_behind(run: Callable[..., str]) -> None:
    run("""
        class C:
            def get(self): return big
        big = "x" * 50_000
        def sizes(c):
            from forkless._pickling import dumps
            return len(dumps(c)[0]), len(dumps(c, home=True)[0]), dumps(c, home=True)[0]
        with Child() as child:
            without, with_home, payload = child(sizes, C())
            assert without > 50_000 and with_home < 200
            from forkless._pickling import loads
            assert type(loads(payload)) is C
    """)


def test_siblings_do_not_overwrite_each_others_state(run: Callable[..., str]) -> None:
    run("""
        class C:
            n = 1
        def change(n):
            from forkless._pickling import dumps
            C.n = n
            return dumps(C())[0]
        def take(payload):
            from forkless._pickling import loads
            return type(loads(payload)) is C, C.n
        with Child() as one, Child() as other:
            other(lambda: C)
            assert other(take, one(change, 9)) == (True, 1)
            with Child() as third:
                payload = one(change, 9)
                assert third(lambda p: __import__("forkless._pickling")._pickling.loads(p).n, payload) == 9
                assert third(take, payload) == (True, 1), "the parent knows better than a sibling"
    """)


def test_classes_made_in_a_child_reach_its_parent(run: Callable[..., str]) -> None:
    run("""
        def make():
            global Made
            class Made:
                v = 3
                def get(self): return helper() + self.v
            def helper(): return 1
            globals()["helper"] = helper
            return Made()
        with Child() as child:
            one, two = child(make), child(lambda: Made())
            assert one.v == 3 and type(one) is type(two) and type(one).__name__ == "Made"
            assert "Made" not in globals()
            assert type(child(lambda x: x, one)) is type(one)
            assert child(lambda x: type(x) is Made, one)
    """)


def test_processes_forked_by_the_user_are_not_taken_for_their_parent(run: Callable[..., str]) -> None:
    run("""
        import os
        from forkless import _pickling
        def one(): return 1
        read, write = os.pipe()
        child = Child()
        assert child(one) == 1
        if os.fork() == 0:
            def two(): return 2
            os.write(write, _pickling.dumps((two, ()))[0])
            os._exit(0)
        os.wait()
        def three(): return 3
        assert child(three) == 3
        assert child.deliver(os.read(read, 100_000)) == 2
        assert child(three) == 3
        child.__exit__()
        os.close(read); os.close(write)
    """)


# --- errors -------------------------------------------------------------------------------------------


class Config:
    def __init__(self) -> None:
        self.lock = threading.Lock()


class Holder:
    def __init__(self) -> None:
        self.config = Config()


def test_errors_name_the_path_to_what_does_not_pickle() -> None:
    with pytest.raises(PicklingError) as caught:
        dumps((print, (Holder(),), {}), names=("function", "args", "kwargs"))
    text = str(caught.value)
    assert text.startswith("args[0].config.lock: cannot pickle '_thread.lock' object; ")
    assert "forkless.Lock()" in text
    assert isinstance(caught.value, pickle.PicklingError)
    assert isinstance(caught.value, TypeError)


class Refuses:
    def __init__(self, error: Exception) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        raise self.error


@pytest.mark.parametrize("kind", [RuntimeError, AttributeError, RecursionError, TypeError, ValueError])
def test_what_an_object_raises_when_it_is_pickled_can_be_caught_as_that(kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught:
        dumps(Refuses(kind("not today")))
    assert isinstance(caught.value, PicklingError) is (kind is not ValueError)
    if kind is not ValueError:
        assert type(caught.value.__cause__) is kind


def generator() -> Any:
    yield 1


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "lock": (threading.Lock, r"^cannot pickle '_thread.lock' object; forkless.Lock\(\)"),
    "in a dict": (lambda: {"a": {1: [threading.Lock()]}}, r"^\['a'\]\[1\]\[0\]: cannot pickle"),
    "as a key": (lambda: {threading.Lock(): 1}, r"^the key <unlocked"),
    "generator": (generator, r"'generator' object; send list\(generator\)"),
    "memoryview": (
        lambda: memoryview(ctypes.c_longdouble()),
        r"memoryview of shape \(\) with items of format '<?g'; send bytes\(view\)",
    ),
    "frame": (sys._getframe, "'frame' object"),
    "too deep": (lambda: deep(100_000), "nested too deeply"),
    "class made in C": (lambda: type(iter(())), "tuple_iterator"),
    "thread": (threading.current_thread, r"_thread.*\; "),
}


def deep(levels: int) -> object:
    found: list[object] = []
    for _ in range(levels):
        found = [found]
    return found


@pytest.mark.parametrize(("make", "match"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_travel_is_refused(make: Callable[[], object], match: str) -> None:
    with pytest.raises(PicklingError, match=match):
        dumps(make())


def test_open_files_are_refused_and_not_sent_by_content(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    with open(tmp_path / "file") as text, open(tmp_path / "file", "rb") as binary:
        for file in (text, binary):
            with pytest.raises(PicklingError, match="send the path"):
                dumps([file])


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_objects_of_multiprocessing_are_refused(method: str) -> None:
    """With what to use, before a child is started; see hazard context-mismatch."""
    source = f"""
import multiprocessing, re
from forkless._pickling import PicklingError, dumps

context = multiprocessing.get_context({method!r})
names = ["Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition", "Event"]
objects = [(getattr(context, name)(), f"use forkless.{{name}}") for name in names]
objects += [(context.Barrier(2), "use forkless.Barrier"), (context.Value("i"), "use forkless.Value")]
objects += [(context.Array("i", 2), "use forkless.Array"), (context.Array("c", 2), "use forkless.Array")]
objects += [(context.Queue(), "use forkless.Queue"), (context.SimpleQueue(), "use forkless.Queue")]
objects += [(context.JoinableQueue(), "use forkless.JoinableQueue")]
if __name__ == "__main__":
    objects += [(context.Pool(1), "make a forkless.Pool where it is used")]
    for obj, use in objects:
        try:
            dumps((0, obj), names=("first", "second"))
        except PicklingError as error:
            said = rf"second: \\w+ of multiprocessing (is known|belongs) .*: {{use}}"
            assert re.fullmatch(said, str(error)), error
        else:
            print("sent", obj)
    try:
        dumps(context.RawValue("i"))
    except PicklingError as error:
        assert "; use forkless.RawValue or forkless.RawArray for" in str(error), error
    objects[-1][0].terminate()
    print("refused", len(objects))
"""
    assert run_program(source).check() == "refused 14\n"


def test_errors_of_multiprocessing_travel() -> None:
    import multiprocessing.pool

    pool: Any = multiprocessing.pool
    for error in (multiprocessing.TimeoutError("late"), pool.MaybeEncodingError("a", "b")):
        assert repr(loads(dumps(error)[0])) == repr(error)


class Broken:
    def __getstate__(self) -> object:
        raise ValueError("of the user")


def test_errors_of_the_users_own_are_not_changed() -> None:
    with pytest.raises(ValueError, match=r"^of the user$"):
        dumps([Broken()])


def test_errors_in_globals_name_them(run: Callable[..., str]) -> None:
    output = run("""
        import threading
        from forkless._pickling import dumps, PicklingError
        lock = threading.Lock()
        state = {"inner": [lock]}
        generator = (x for x in ())
        def helper(): return lock
        def direct(): return state
        def indirect(): return helper()
        class C:
            def m(self): return generator
        def outer():
            kept = lock
            return lambda: kept
        def default(x=lock): pass
        for obj in (direct, indirect, C(), outer(), default, [C.m]):
            try: dumps(obj)
            except PicklingError as error: print(str(error).partition(" object")[0])
    """)
    assert output.splitlines() == [
        "direct -> the global 'state'['inner'][0]: cannot pickle '_thread.lock'",
        "indirect -> the global 'helper' -> the global 'lock': cannot pickle '_thread.lock'",
        "its class.m -> the global 'generator': cannot pickle 'generator'",
        "outer.<locals>.<lambda> -> the variable 'kept': cannot pickle '_thread.lock'",
        "default -> a default argument: cannot pickle '_thread.lock'",
        "[0] -> the global 'generator': cannot pickle 'generator'",
    ]


def test_pickling_goes_on_after_an_error(run: Callable[..., str]) -> None:
    run("""
        import threading
        from forkless._pickling import dumps, loads, PicklingError
        thing = threading.Lock()
        def f(): return thing
        for _ in range(3):
            try: dumps(f)
            except PicklingError: pass
            else: raise AssertionError
        thing = 5
        with Child() as child: assert child(f) == 5
    """)


def test_a_module_missing_in_the_child_fails_one_message_only(
    run: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "only_here.py").write_text("VALUE = 4\n")
    run(f"""
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        import only_here
        def f(): return only_here.VALUE
        with Child() as child:
            for _ in range(2):
                try: child(f)
                except ModuleNotFoundError: pass
                else: raise AssertionError
            child(lambda path: sys.path.insert(0, path), {str(tmp_path)!r})
            assert child(f) == 4
    """)


# --- re-entrancy, threads, memory ---------------------------------------------------------------------


class PicklesInFinaliser:
    """Part of a cycle, so that it is the collector that finalises it."""

    done: ClassVar[list[object]] = []

    def __init__(self) -> None:
        self.me = self

    def __del__(self) -> None:
        self.done.append(loads(dumps((os.path.join, {"a": 1}))[0]))


class Collects:
    def __reduce__(self) -> tuple[Any, ...]:
        PicklesInFinaliser()
        gc.collect()
        return int, (7,)


def test_pickling_in_a_finaliser_in_the_middle_of_pickling() -> None:
    PicklesInFinaliser.done.clear()
    assert loads(dumps([Collects(), "x", Collects()])[0]) == [7, "x", 7]
    assert PicklesInFinaliser.done == [(os.path.join, {"a": 1})] * 2


def test_finalisers_while_definitions_are_pickled(run: Callable[..., str]) -> None:
    run("""
        import gc
        from forkless._pickling import dumps
        K = [1]
        def f(): return K
        class Node:
            def __init__(self): self.me = self
            def __del__(self): results.append(dumps((f, C))[0])
        class Evil:
            def __reduce__(self): Node(); gc.collect(); return int, ()
        results = []
        evil = Evil()
        class C: pass
        def g(): return evil, f(), C
        for _ in range(3): assert dumps(g)[0]
        assert len(results) == 3
        with Child() as child:
            assert child(lambda: g)()[1:] == ([1], C)
    """)


def test_many_threads(run: Callable[..., str]) -> None:
    run("""
        import sys, threading
        sys.setswitchinterval(1e-5)
        K = 0
        class C:
            def get(self): return K
        def f(c): return type(c) is C and isinstance(c.get(), int)
        payloads = []
        def send():
            global K
            for _ in range(100):
                K += 1
                payloads.append(Child.pack(f, C()))
        def many(payloads):
            from concurrent.futures import ThreadPoolExecutor
            from forkless._pickling import loads
            def call(payload):
                function, args = loads(payload)
                return function(*args), type(args[0])
            with ThreadPoolExecutor(8) as pool: return set(pool.map(call, payloads))
        threads = [threading.Thread(target=send) for _ in range(4)]
        for t in threads: t.start()
        for t in threads: t.join()
        with Child() as child:
            assert child(many, payloads) == {(True, C)}
    """)


def test_what_was_sent_can_be_freed(run: Callable[..., str]) -> None:
    run("""
        import gc, weakref
        from forkless import _units
        def make():
            class Local:
                def me(self): return Local
            return Local
        def count():
            import gc
            while gc.collect(): pass
            return sum(getattr(o, "__name__", "") == "Local" for o in gc.get_objects() if isinstance(o, type))
        with Child() as child:
            for _ in range(400):
                assert child(lambda c: type(c.me()), make()()) is type
            while gc.collect(): pass
            assert sum(u.subject.__name__ == "Local" for u in list(_units.objects.values())) <= 256
            assert child(count) < 20
    """)


def test_what_was_pickled_is_not_kept(run: Callable[..., str]) -> None:
    """Without waiting for the collector."""
    run("""
        import gc, weakref
        from forkless._pickling import dumps
        class Data(list): pass
        data = Data([b"x" * 1000] * 100)
        def f(): return data
        def g(given): return given
        gc.disable()
        for size in (1, 100_000):
            given = Data([b"x" * size])
            gone = weakref.ref(given)
            dumps((g, given))
            del given
            assert gone() is None
        dumps(f)
        gone = weakref.ref(data)
        data = None
        assert gone() is None
    """)


# --- one process --------------------------------------------------------------------------------------


def test_importability_is_about_the_same_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "twin_of_test.py").write_text("def f(): pass\n")
    other = tmp_path / "elsewhere" / "twin_of_test.py"
    other.parent.mkdir()
    other.write_text("def f(): pass\n")
    spec = importlib.util.spec_from_file_location("twin_of_test", other)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "twin_of_test", module)
    spec.loader.exec_module(module)
    assert not _pickling.importable("twin_of_test")
    found = importlib.util.find_spec("json")
    assert found is not None
    assert _pickling.importable("json")
    assert not _pickling.importable("no_such_module")
    assert not _pickling.importable("__main__")
    assert not _pickling.importable(None)


def test_a_module_made_by_hand_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "made_by_hand", types.ModuleType("made_by_hand"))
    assert not _pickling.importable("made_by_hand")


def test_weak_dictionaries_and_views() -> None:
    key = Registered(1)
    for obj in (weakref.WeakKeyDictionary({key: 1}), weakref.WeakValueDictionary({1: key})):
        assert type(loads(dumps(obj)[0])) is type(obj)
    assert list(loads(dumps({1: 2}.items())[0])) == [(1, 2)]
    assert loads(dumps(types.MappingProxyType({1: 2}))[0]) == {1: 2}


def test_while_another_thread_imports_multiprocessing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("reduction", "managers", "connection"):
        # As it is at first.
        monkeypatch.setitem(sys.modules, f"multiprocessing.{name}", types.ModuleType("multiprocessing"))
    for obj in (Registered(1), Lock(), threading.Thread, [1, {2: Path("a")}]):
        payload, handles = dumps(obj)
        assert payload, handles
