"""How Sphinx builds the site; `./dev docs` runs it. The pages are the Markdown files of this folder."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent

# Files of the repository that are pages of the site as well: the page is this file, whatever its source says.
ROOT_FILES = {
    "ARCHITECTURE.md": "design/architecture.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}
# Pages that not every checkout has; where they are, they are in the front page's table of contents.
OPTIONAL = ("install", "names", "conformance", "libraries", "clusters", "wheels", "types")
STANDS_FOR = {**ROOT_FILES, "README.md": "index.md"}

project = "forkless"
author = "the authors of forkless"
version = release = re.findall(r'^version = "([\d.]+)"', (ROOT / "Cargo.toml").read_text(), re.M)[0]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4

html_theme = "furo"
html_title = f"forkless {version}"
html_static_path = ["_static"]
html_css_files = ["forkless.css"]
html_copy_source = False
html_show_copyright = False
pygments_style = "friendly"
pygments_dark_style = "monokai"

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False


def with_links(text: str, at: Path, page: str) -> str:
    """Turns the links of a file of the repository into those of a page.

    Args:
        text: The Markdown of the file.
        at: The folder of the file, which its links are relative to.
        page: The page, as a path below the folder of the pages.
    """

    def link(match: re.Match[str]) -> str:
        name, hash_, anchor = match[1].partition("#")
        if not name or "://" in name:
            return match[0]
        path = os.path.relpath(at / name, ROOT)
        target = DOCS / STANDS_FOR[path] if path in STANDS_FOR else ROOT / path
        # What the front page does not have is in none of its sections.
        hash_, anchor = ("", "") if path == "README.md" else (hash_, anchor)
        return f"]({os.path.relpath(target, (DOCS / page).parent)}{hash_}{anchor})"

    return re.sub(r"\]\(([^)\s]+)\)", link, text)


def read_source(app: Any, docname: str, source: list[str]) -> None:
    """Gives a page its text, and links that lead somewhere on the site."""
    page = f"{docname}.md"
    for name, stands_at in ROOT_FILES.items():
        if stands_at == page:
            app.env.note_dependency(str(ROOT / name))
            source[0] = with_links((ROOT / name).read_text(), ROOT, page)
            return
    source[0] = with_links(source[0], (DOCS / page).parent, page)
    for name in OPTIONAL if docname == "index" else ():
        if not (DOCS / f"{name}.md").exists():
            source[0] = source[0].replace(f"\n{name}\n", "\n")


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("source-read", read_source)
