"""A Python program and a Rust program ask each other to count words, through queues.

    cargo build -p forkless --example word_count
    python crates/forkless/examples/word_count.py target/debug/examples/word_count

What travels are plain values: dicts here, structs there. First this program starts the Rust one, which
answers; then the Rust program starts this one once more, and asks.
"""

import subprocess
import sys
from collections import Counter
from fractions import Fraction
from typing import Any

import forkless as mp


def handle(queue: "mp.Queue[Any]") -> str:
    """The name of a queue, as text that a Rust program reads."""
    return "{:x}-{:x}-{:x}".format(*queue.handle)


def count(text: dict[str, Any]) -> dict[str, Any]:
    words = Counter(word.lower() for line in text["lines"] for word in line.split())
    mean = sum(words.values()) / max(1, len(text["lines"]))
    return {"title": text["title"], "words": dict(words), "mean": mean}


def ask(program: str) -> None:
    texts: mp.Queue[Any] = mp.Queue(2)
    counts: mp.Queue[Any] = mp.Queue()
    # From its first process on, a tree has a name, under which other programs find it.
    mp.Process(target=int).start()
    with subprocess.Popen([program, "answer", handle(texts), handle(counts)]) as rust:
        texts.put(Fraction(1, 2))  # not a text
        for lines in (["to be or not to be"], ["that is", "the question"], []):
            text = {"title": " / ".join(lines), "lines": lines}
            texts.put(text)
            answer = counts.get(timeout=60)
            assert answer == count(text), answer
            print(f"Rust has counted {len(answer['words'])} words, {answer['mean']} a line")
        texts.put(None)
    print(f"Rust ended: exit code {rust.returncode}")


def answer() -> None:
    texts, counts = mp.inherited("texts"), mp.inherited("counts")
    while (text := texts.get()) is not None:
        counts.put(count(text))


if len(sys.argv) > 1:
    ask(sys.argv[1])
    print(flush=True, end="")
    subprocess.run([sys.argv[1], "ask", sys.executable, __file__], check=True)
else:
    answer()
