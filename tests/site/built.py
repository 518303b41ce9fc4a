"""The built site: every link leads somewhere, and a browser is content with it. Run by `./dev docs`."""

from __future__ import annotations

import functools
import html
import json
import os
import posixpath
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from support import PROGRAM_PATIENCE

SITE = Path(__file__).parents[2] / "target" / "docs"
PAGES = sorted(str(path.relative_to(SITE)) for path in SITE.rglob("*.html"))
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Page(HTMLParser):
    """What a page links to, and what can be linked to in it."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = {""}
        self.feed((SITE / name).read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.links.append(value)
            elif name == "id" and value:
                self.anchors.add(value)


@functools.cache
def page(name: str) -> Page:
    return Page(name)


def fault(source: str, link: str) -> str | None:
    """What is wrong with a link, if anything."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return None
    path = posixpath.join(posixpath.dirname(source), unquote(parts.path))
    target = posixpath.normpath(path) if parts.path else source
    if not (SITE / target).is_file():
        return f"{source}: {link} leads nowhere"
    if target.endswith(".html") and unquote(parts.fragment) not in page(target).anchors:
        return f"{source}: {link} has no such place"
    return None


def test_there_is_a_site() -> None:
    assert {"index.html", "search.html", "genindex.html", "design/architecture.html"} <= set(PAGES)


def test_every_link_leads_somewhere() -> None:
    links = {(name, link) for name in PAGES for link in page(name).links}
    faults = sorted(filter(None, (fault(*each) for each in links)))
    assert not faults, "\n".join(faults)
    assert len(links) > 500


def test_a_broken_link_is_noticed() -> None:
    assert fault("index.html", "index.html") is fault("design/errors.html", "../index.html#") is None
    assert "leads nowhere" in (fault("index.html", "nothing.html") or "")
    assert "no such place" in (fault("index.html", "#nothing") or "")


def test_nothing_is_fetched_from_elsewhere() -> None:
    """The site works from a folder, without a network."""
    for name in PAGES:
        for tag in re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", (SITE / name).read_text()):
            assert "://" not in tag, f"{name}: {tag}"


# Looks at pages one after the other in a narrow frame, and notes what is wrong with each.
TOUR = """<!doctype html><iframe id="frame" style="width: 360px; height: 700px"></iframe>
<pre id="found"></pre>
<script>
const pages = PAGES, faults = [], frame = document.getElementById("frame");
function next(index) {
  if (index == pages.length) {
    document.getElementById("found").textContent = JSON.stringify({seen: index, faults});
    return;
  }
  frame.onload = () => {
    const inner = frame.contentWindow, root = inner.document.documentElement;
    if (root.scrollWidth > root.clientWidth)
      faults.push(`${pages[index]}: is ${root.scrollWidth} pixels wide on a screen of ${root.clientWidth}`);
    if (!inner.document.querySelector("h1, #search-results"))
      faults.push(`${pages[index]}: has no heading`);
    next(index + 1);
  };
  frame.src = pages[index];
}
next(0);
</script>
"""


class Handler(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path != "/tour":
            return super().do_GET()
        text = TOUR.replace("PAGES", json.dumps([f"/{name}" for name in PAGES])).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(text)
        return None

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The site on a server of this process."""
    handler = functools.partial(Handler, directory=str(SITE))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def browse(url: str, folder: Path) -> str:
    """What a page has become once its scripts have run; nothing may have been complained of meanwhile."""
    if CHROMIUM is None:
        pytest.skip("no chromium here: the pages are not looked at in a browser")
    flags = "--headless --disable-gpu --no-first-run --disable-background-networking --disable-sync"
    sandbox = ["--no-sandbox"] if os.getuid() == 0 else []
    command = [CHROMIUM, *flags.split(), *sandbox, f"--user-data-dir={folder}", "--enable-logging=stderr"]
    limits = ["--virtual-time-budget=50000", "--timeout=100000"]
    result = subprocess.run(
        [*command, *limits, "--dump-dom", url],
        capture_output=True,
        text=True,
        timeout=PROGRAM_PATIENCE,
        check=True,
    )
    # Lines of the console of pages; what the browser says of itself is nobody's concern here.
    complaints = [line for line in result.stderr.splitlines() if ":CONSOLE" in line]
    assert not complaints, "\n".join(complaints)
    return result.stdout


def test_the_pages_fit_a_narrow_screen(address: str, tmp_path: Path) -> None:
    text = browse(f"{address}/tour", tmp_path)
    found = json.loads(html.unescape(re.findall(r'<pre id="found">(.*?)</pre>', text, re.S)[0]))
    assert not found["faults"], "\n".join(found["faults"])
    assert found["seen"] == len(PAGES)


@pytest.mark.parametrize(
    ("words", "expected"), [("arena", "design/architecture.html"), ("max_memory_per_child", "pools.html")]
)
def test_search_finds_pages(address: str, tmp_path: Path, words: str, expected: str) -> None:
    text = browse(f"{address}/search.html?q={words}", tmp_path)
    results = re.findall(r'<li[^>]*><a href="([^"?#]+)', text.partition('id="search-results"')[2])
    assert expected in results
