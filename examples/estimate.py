#!/usr/bin/env python3
"""How large is pi? A generator in a worker draws points, and says now and then how it stands.

Each stream is a generator task of a `forkless.Executor`: what it yields arrives one by one, and it draws only
a few batches ahead of what was taken. When the answer is good enough, the streams are closed, which ends the
generators in the workers.

There is no `__main__` guard: children never execute this file.
"""

import argparse
import math
import random
from collections.abc import Iterator

import forkless


def draw(seed: int, batch: int) -> Iterator[tuple[int, int]]:
    """Draws points in a square for ever: how many, and how many of them were in the circle."""
    source = random.Random(seed)
    try:
        while True:
            inside = sum(math.hypot(source.random(), source.random()) < 1 for _ in range(batch))
            yield batch, inside
    finally:
        print(f"stream {seed} has ended")


parser = argparse.ArgumentParser(description="Estimates pi until the error is small enough.")
parser.add_argument(
    "--error", type=float, metavar="X", default=0.005, help="standard error; default: %(default)s"
)
parser.add_argument("--workers", type=int, metavar="N", default=2, help="default: %(default)s")
options = parser.parse_args()

points = inside = 0
error = math.inf
with forkless.Executor(options.workers) as executor:
    streams = [executor.stream(draw, seed, 1000) for seed in range(options.workers)]
    while error > options.error:
        for drawn, hits in map(next, streams):
            points, inside = points + drawn, inside + hits
        share = inside / points
        error = 4 * math.sqrt(share * (1 - share) / points)
    for stream in streams:
        stream.close()
print(f"pi is {4 * share:.3f}, more or less {error:.3f}, after {points:,} points")
