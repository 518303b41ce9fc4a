"""What a pool really costs: an array that its workers share, words that they inherit, and what each has made.

    python examples/memory_of_a_pool.py [--plot FILE]

Prints the memory report that docs/memory.md explains; `--plot memory.svg` draws it too, with matplotlib.
"""

import argparse
import os

import forkless as mp
import numpy as np
from numpy.typing import NDArray

WORKERS = 4


class Desk:
    """What each worker has before it: the prices that all share, and 20 MB of its own."""

    def __init__(self, prices: NDArray[np.float64]) -> None:
        self.prices = prices
        self.notes = bytearray(os.urandom(1_000_000)) * 20


def add_up(words: bytes, all_there: mp.Barrier, start: int) -> float:
    """Adds up a part of the prices, of which there are as many as the words say."""
    prices: NDArray[np.float64] = mp.current_worker().state.prices
    all_there.wait()  # each worker has one part
    return float(prices[start :: len(words) // 15_000_000].sum())


def run(picture: str | None) -> None:
    """Has a pool work, and looks at the memory while a message is on its way."""
    words = os.urandom(1_000_000) * 60
    mp.preload(words)
    prices = mp.share(np.arange(25_000_000, dtype=np.float64))
    messages: mp.Queue[NDArray[np.float64]] = mp.Queue()
    all_there = mp.Barrier(WORKERS)
    with mp.Pool(WORKERS, worker_state=lambda: Desk(prices)) as pool:
        totals = pool.map(lambda start: add_up(words, all_there, start), range(WORKERS), chunksize=1)
        messages.put(np.ones(3_000_000))
        report = mp.memory_report()
    print(report)
    if picture:
        report.plot(picture)
    assert sum(totals) == prices.sum()


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--plot", metavar="FILE", help="draw it too, as PNG or SVG")
run(parser.parse_args().plot)
