#!/usr/bin/env python3
"""Crawls a small site whose pages misbehave, and goes on whatever they do.

The site is served by this program: some of its pages answer 503 at first, one never answers, and one has
something on it that crashes the parser. Each page is fetched and parsed by a task of a `forkless.Pool`, with
a time limit and retries. The crawl ends with what was found, and with what became of the other pages.

There is no `__main__` guard: children never execute this file.
"""

import argparse
import re
import signal
import threading
import time
import urllib.request
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import forkless

WORDS = "process memory lock queue worker task signal pipe".split()


# The site.


class Site(BaseHTTPRequestHandler):
    """Pages by number; each links to the next ones."""

    pages = 40
    hanging, crashing = 17, 23
    asked: ClassVar[Counter[str]] = Counter()

    def do_GET(self) -> None:
        number = int(self.path[1:])
        self.asked[self.path] += 1
        if number == self.hanging:
            time.sleep(60)
        status = 503 if number % 7 == 3 and self.asked[self.path] == 1 else 200
        links = [n for n in (2 * number + 1, 2 * number + 2) if n < self.pages]
        text = " ".join(WORDS[: 1 + number % len(WORDS)])
        crash = "<crash>" if number == self.crashing else ""
        body = f"{text} {crash} " + " ".join(f'<a href="/{n}">next</a>' for n in links)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


# In the workers.


def visit(url: str) -> tuple[list[str], Counter[str]]:
    """The links of a page, and its words."""
    with urllib.request.urlopen(url) as response:
        page = response.read().decode()
    if "<crash>" in page:
        signal.raise_signal(signal.SIGSEGV)  # what a parser in C may do
    site = url.rpartition("/")[0]
    links = [site + path for path in re.findall(r'href="(.*?)"', page)]
    return links, Counter(re.sub("<.*?>", "", page).split())


# Here.


def crawl(pool: forkless.Pool, start: str, timeout: float) -> tuple[Counter[str], int, list[Exception]]:
    """Visits all pages that can be reached, level by level."""
    words: Counter[str] = Counter()
    visited, failed = 0, list[Exception]()
    level = [start]
    while level:
        found: list[str] = []
        pages = pool.imap_unordered(
            visit,
            level,
            progress={"desc": f"{len(level)} pages"},
            timeout=timeout,
            # What urllib raises for an answer of 503 is an OSError, and so is a TimeoutError.
            retries=forkless.Retry(2, delay=0.05, on=OSError),
        )
        while True:
            try:
                links, counted = next(pages)
            except StopIteration:
                break
            except forkless.ProcessError as error:
                failed.append(error)  # The next call goes on with the next page.
            else:
                visited += 1
                words += counted
                found += links
        level = found
    return words, visited, failed


parser = argparse.ArgumentParser(description="Crawls a small site whose pages misbehave.")
parser.add_argument("--workers", type=int, metavar="N", default=4, help="default: %(default)s")
parser.add_argument("--timeout", type=float, metavar="SECONDS", default=2.0, help="for each page")
options = parser.parse_args()

server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()

with forkless.Pool(options.workers) as pool:
    words, visited, failed = crawl(pool, f"http://127.0.0.1:{server.server_port}/0", options.timeout)
    statistics = pool.statistics()

print(f"{visited} pages visited, {len(failed)} failed, {statistics.retried} retries")
print("most used words:", ", ".join(f"{word} ({uses})" for word, uses in words.most_common(3)))
for message in sorted(map(str, failed)):
    print(message.splitlines()[0])
server.shutdown()
