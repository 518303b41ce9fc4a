#!/usr/bin/env python3
"""A server under asyncio that computes in processes: it answers numbers with their prime factors.

Each line of a client is a call of a `forkless.aio.Pool`, with a time limit. The event loop stays free while
the workers compute, no thread waits, and the end of the server ends what still runs.

By default three clients of its own ask at once, and the program ends. With `--port` it serves others:

    $ python3 factor_server.py --port 8765 &
    $ echo 1001 | nc localhost 8765
    7 11 13

There is no `__main__` guard: children never execute this file.
"""

import argparse
import asyncio

import forkless

EASY, HARD = ["1001", "65536", "a dozen", "104729"], [str(2**89 - 1)]


def factors(number: int) -> list[int]:
    """The prime factors of a number, slowly."""
    found, divisor = [], 2
    while divisor * divisor <= number:
        while number % divisor == 0:
            found.append(divisor)
            number //= divisor
        divisor += 1
    return [*found, number] if number > 1 else found


class Server:
    """Answers lines with what a pool computes."""

    def __init__(self, pool: forkless.aio.Pool, limit: float) -> None:
        self._calls = pool.options(timeout=limit)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client, until it goes away."""
        async for line in reader:
            answer = await self._answer(line.decode().strip())
            writer.write(f"{answer}\n".encode())
            await writer.drain()
        writer.close()

    async def _answer(self, line: str) -> str:
        try:
            return " ".join(map(str, await self._calls.run(factors, int(line))))
        except ValueError:
            return "is no number"
        except forkless.TimeoutError:
            return "is too hard"


async def ask(port: int, numbers: list[str]) -> list[str]:
    """A client."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answers = []
    for number in numbers:
        writer.write(f"{number}\n".encode())
        answers.append(f"{number}: {(await reader.readline()).decode().strip()}")
    writer.close()
    return answers


async def main(port: int | None, workers: int, limit: float) -> None:
    async with forkless.aio.Pool(workers) as pool:
        server = await asyncio.start_server(Server(pool, limit).serve, "127.0.0.1", port or 0)
        async with server:
            if port is not None:
                await server.serve_forever()
            own = server.sockets[0].getsockname()[1]
            for answers in await asyncio.gather(ask(own, EASY), ask(own, HARD), ask(own, EASY[::-1])):
                print(", ".join(answers))


parser = argparse.ArgumentParser(description="Answers numbers with their prime factors.")
parser.add_argument("--port", type=int, metavar="N", help="serve others, until Ctrl-C")
parser.add_argument("--workers", type=int, metavar="N", default=2, help="default: %(default)s")
parser.add_argument("--limit", type=float, metavar="SECONDS", default=1.0, help="for each number")
options = parser.parse_args()
asyncio.run(main(options.port, options.workers, options.limit))
