"""One program for every executor: what it prints has to be the same, wherever the tasks run."""

import asyncio
import concurrent.futures
import json
import os
import sys
import threading
import traceback

import forkless as mp
import numpy


class Odd(Exception):
    def __init__(self, left, right):
        super().__init__(f"{left} is no match for {right}")
        self.left = left


class Closed(Exception):
    """Cannot travel."""

    def __init__(self):
        super().__init__("closed")
        self.lock = threading.Lock()


class Tree:
    label = "mine"

    def __init__(self, depth):
        self.depth = depth

    def grown(self):
        return Tree(self.depth + 1)


def double(number):
    return 2 * number


def add(left, right=10):
    return left + right


def fail(left):
    raise Odd(left, "right")


def fail_closed():
    raise Closed


def divide(number):
    return 1 / number


def fail_twice_over():
    try:
        divide(0)
    except ZeroDivisionError as error:
        raise KeyError("outer") from error


def look(array, index):
    return bool(array.flags.writeable), float(array[index]), array.dtype.str, list(array.shape)


def write(array):
    array[0] = 1


def fill(array):
    array[:] = 7
    return array


def first(rows):
    return type(rows).__name__, rows[1]["name"], len(rows)


def head(data):
    return bytes(memoryview(data)[:3]), memoryview(data).readonly, memoryview(data).nbytes


def value_of(frame):
    return int(frame["a"].sum()), [str(kind) for kind in frame.dtypes]


def mutate():
    Tree.label = "theirs"
    return Tree(1)


def told(error):
    frames = traceback.extract_tb(error.__traceback__)
    return {
        "class": type(error).__name__,
        "text": str(error),
        "last frame": frames[-1].name,
        "line": frames[-1].line,
        "cause": type(error.__cause__).__name__,
        "notes": list(getattr(error, "__notes__", [])),
    }


def error_of(future):
    return told(future.exception(60))


def basics(executor):
    offset = 100
    yield "submit", executor.submit(double, 21).result(60)
    yield "keywords", executor.submit(add, 1, right=2).result(60)
    yield "lambda", executor.submit(lambda: offset + 1).result(60)
    yield "builtin", executor.submit(sorted, [3, 1, 2], reverse=True).result(60)
    grown = executor.submit(Tree(1).grown).result(60)
    yield "class", [type(grown) is Tree, grown.depth]
    yield "classes at home are left alone", [type(executor.submit(mutate).result(60)) is Tree, Tree.label]
    yield "named", executor.options(name="twice", priority=3).submit(double, 4).result(60)


def maps(executor):
    yield "map", list(executor.map(double, range(20)))
    yield "map of two", list(executor.map(add, range(5), [1, 2, 3]))
    yield "chunks", list(executor.map(double, range(20), chunksize=7))
    yield "lambda chunks", list(executor.map(lambda n: n + 1, range(9), chunksize=4))
    counted = iter(range(100))
    results = executor.map(double, counted, buffersize=4)
    yield "buffersize", [next(results), next(results), next(counted)]
    results.close()
    yield "options", list(executor.options(retries=1).map(double, range(3)))
    yield "empty", list(executor.map(double, []))
    try:
        list(executor.map(divide, [2, 1, 0, 4]))
    except ZeroDivisionError as error:
        yield "map fails", told(error)
    try:
        event = threading.Event()
        list(executor.map(event.wait, [1]))
    except TypeError as error:
        yield "map of what does not pickle", type(error).__name__
    for wrong in ({"chunksize": 0}, {"buffersize": 0}, {"buffersize": "many"}):
        try:
            executor.map(double, [1], **wrong)
        except (TypeError, ValueError) as error:
            yield f"wrong {wrong}", [type(error).__name__, str(error)]


def errors(executor):
    yield "exception", error_of(executor.submit(fail, 3))
    yield "its attributes", executor.submit(fail, 3).exception(60).left
    yield "chain", error_of(executor.submit(fail_twice_over))
    closed = executor.submit(fail_closed).exception(60)
    yield "cannot travel", [type(closed).__name__, closed.type_name, closed.arguments, list(closed.ancestors)]
    yield "result", type(executor.submit(threading.Lock).exception(60)).__mro__[1].__name__
    yield "argument", type(executor.submit(double, threading.Lock()).exception(60)).__name__
    retry = mp.Retry(2, delay=0.01, on=(ZeroDivisionError,))
    yield "retries", error_of(executor.options(retries=retry).submit(divide, 0))
    yield "other errors", error_of(executor.options(retries=retry).submit(fail, 1))["notes"]
    yield "system exit", type(executor.submit(sys.exit, 3).exception(60)).__name__
    died = executor.submit(os._exit, 3).exception(60)
    yield "died", [type(died).__name__, died.task, died.arguments, isinstance(died, mp.WorkerDied)]
    yield "goes on", list(executor.map(double, range(5)))
    for wrong in ({"colour": 1}, {"retries": -1}, {"priority": "high"}, {"name": 3}):
        try:
            executor.options(**wrong)
        except (TypeError, ValueError) as error:
            yield f"wrong {wrong}", [type(error).__name__, str(error)]


def sharing(executor):
    shared = mp.share(numpy.arange(200_000.0).reshape(400, 500))
    yield "shared", executor.submit(look, shared, (3, 7)).result(60)
    yield "part", executor.submit(look, shared[10:50:3, ::-1], (1, 0)).result(60)
    yield "turned", executor.submit(look, shared.T, (7, 3)).result(60)
    yield "closure", executor.submit(lambda: look(shared, (0, 1))).result(60)
    yield "in a dict", executor.submit(lambda parts: look(parts["a"], (0, 1)), {"a": shared}).result(60)
    yield (
        "many",
        [row[1] for row in executor.map(look, [shared] * 6, [(n, n) for n in range(6)], chunksize=2)],
    )
    yield "write", error_of(executor.submit(write, shared))["class"]
    made = mp.empty(1000, "f4")
    made[:] = 3
    yield "sealed", executor.submit(look, mp.seal(made), 999).result(60)
    yield "strange types", executor.submit(str, mp.share(numpy.array(["2020-01-01"], "M8[D]"))).result(60)
    yield "nothing", executor.submit(len, mp.share(numpy.empty((0, 3)))).result(60)
    for size in (10, 100_000):
        filled = executor.submit(fill, numpy.zeros(size)).result(60)
        yield f"argument of {size}", [bool(filled.flags.writeable), float(filled.sum())]
    kept = numpy.zeros(100_000)
    kept.flags.writeable = False
    yield "read-only argument", executor.submit(look, kept, 0).result(60)
    rows = mp.share([{"name": name, "age": age} for name, age in (("Ada", 36), ("Alan", 41))] * 50)
    yield "list", executor.submit(first, rows).result(60)
    yield "dict", executor.submit(lambda d: [type(d).__name__, d["b"][1]], mp.share({"b": [1, 2]})).result(60)
    yield "bytes", [repr(part) for part in executor.submit(head, mp.share(b"abc" * 50_000)).result(60)]
    view = memoryview(mp.share(b"abc" * 50_000))[3:]
    yield "view", [repr(part) for part in executor.submit(head, view).result(60)]
    mine = executor.share(numpy.arange(200_000.0).reshape(400, 500))
    yield "shared by the executor", executor.submit(look, mine.T[::2], (1, 3)).result(60)
    yield "read here", [type(mine).__name__, mine.flags.writeable, float(mine[1, 1])]
    yield "shared once", executor.share(mine) is mine
    more = executor.share([{"name": "Ada"}, {"name": "Alan"}])
    yield "list of the executor", executor.submit(first, more).result(60)
    import pandas

    frame = mp.share(pandas.DataFrame({"a": range(20_000), "b": 1.5}))
    yield "frame", executor.submit(value_of, frame).result(60)


def futures(executor):
    several = [executor.submit(double, number) for number in range(5)]
    done, rest = concurrent.futures.wait(several, timeout=60)
    yield "wait", [len(done), len(rest)]
    yield "as_completed", sorted(f.result() for f in concurrent.futures.as_completed(several, timeout=60))
    called = []
    future = executor.submit(double, 3)
    future.add_done_callback(lambda f: called.append(f.result()))
    concurrent.futures.wait([future])
    future.add_done_callback(lambda f: called.append(f.result()))
    yield "callbacks", called
    yield "done", [future.done(), future.running(), future.cancelled(), future.cancel()]
    yield "a real future", isinstance(future, concurrent.futures.Future)

    async def wrapped():
        loop = asyncio.get_running_loop()
        in_executor = await loop.run_in_executor(executor, double, 5)
        return in_executor, await asyncio.wrap_future(executor.submit(double, 6))

    yield "asyncio", asyncio.run(wrapped())
    statistics = executor.statistics()
    yield "statistics", [statistics.waiting, statistics.sent, statistics.done > 20, statistics.lost >= 1]
    yield "insights", "slowest tasks" in str(executor.insights())


def ends(executor):
    yield "real", [isinstance(executor, mp.Executor), isinstance(executor, concurrent.futures.Executor)]
    executor.shutdown()
    try:
        executor.submit(double, 1)
    except RuntimeError as error:
        yield "after shutdown", str(error)
    executor.shutdown()


async def awaited(where):
    async with mp.aio.Pool(where) as pool:
        yield "run", await pool.run(double, 4)
        yield "aio map", [result async for result in pool.map(double, range(7), chunksize=2)]
        try:
            await pool.run(fail, 1)
        except Odd as error:
            yield "aio error", told(error)
        yield "aio options", await pool.options(name="x").run(double, 2)


async def all_awaited(where):
    return [pair async for pair in awaited(where)]


def main(where):
    where = int(where) if where.isdigit() else where
    found = {}
    with mp.Executor(where) as executor:
        for part in (basics, maps, errors, sharing, futures, ends):
            for name, outcome in part(executor):
                assert name not in found, name
                found[name] = outcome
    found.update(asyncio.run(all_awaited(where)))
    print(json.dumps(found, indent=1, sort_keys=True))


main(sys.argv[1])
