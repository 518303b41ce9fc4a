"""How Sphinx builds the site; `./dev docs` runs it. The pages are the Markdown files of this folder."""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
import re
from pathlib import Path
from typing import Any

import forkless

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
LINK = re.compile(r"\[((?:`[^`]*`|[^][`])*)\]\(([^)\s]+)\)")
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
highlight_language = "text"  # of blocks that do not say what they are: what programs print
pygments_style = "friendly"
pygments_dark_style = "monokai"

# In docstrings one backtick means code, as in Markdown.
default_role = "code"
maximum_signature_line_length = 88
autodoc_member_order = "bysource"
# "TimeoutError" in a docstring may be that of `forkless` or of `forkless.exceptions`: the same.
suppress_warnings = ["ref.python"]
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # attributes are told of by their class; as members, some would be told of twice


def with_links(text: str, at: Path, page: str) -> str:
    """Turns the links of a file of the repository into those of a page.

    Args:
        text: The Markdown of the file.
        at: The folder of the file, which its links are relative to.
        page: The page, as a path below the folder of the pages.
    """

    def link(match: re.Match[str]) -> str:
        name, hash_, anchor = match[2].partition("#")
        if not name or "://" in name:
            return match[0]
        path = os.path.relpath(at / name, ROOT)
        if path.removeprefix("docs/").removesuffix(".md") in OPTIONAL and not (ROOT / path).exists():
            return match[1]
        target = DOCS / STANDS_FOR[path] if path in STANDS_FOR else ROOT / path
        # What the front page does not have is in none of its sections.
        hash_, anchor = ("", "") if path == "README.md" else (hash_, anchor)
        return f"[{match[1]}]({os.path.relpath(target, (DOCS / page).parent)}{hash_}{anchor})"

    prose_and_code = re.split(r"(^```.*?^```$)", text, flags=re.S | re.M)
    prose_and_code[::2] = [LINK.sub(link, prose) for prose in prose_and_code[::2]]
    return "".join(prose_and_code)


def modules() -> str:
    """The public modules, each with those of its names that no other page of the reference has."""
    told = told_elsewhere()
    homes = {id(attribute(name)): name for name in told}
    parts = []
    for found in sorted(pkgutil.iter_modules(forkless.__path__), key=lambda found: found.name):
        if found.name.startswith("_"):
            continue
        module = f"forkless.{found.name}"
        parts.append(f"## {module}\n\n```{{eval-rst}}\n.. automodule:: {module}\n```\n")
        links = []
        for name in getattr(importlib.import_module(module), "__all__", ()):
            full = f"{module}.{name}"
            home = full if full in told else homes.get(id(attribute(full)))
            if home is not None:
                links.append(f"{{py:obj}}`{name} <{home}>`")
            else:
                parts.append(directive(full))
        parts.append(f"Elsewhere: {', '.join(links)}.\n" if links else "")
    return "\n".join(parts)


def told_elsewhere() -> set[str]:
    """The full names that the pages of the reference ask for."""
    pages = (path.read_text() for path in (DOCS / "reference").glob("*.md"))
    return {name for page in pages for name in re.findall(r"^\.\. auto\w+:: ([\w.]+)", page, re.M)}


def attribute(full: str) -> Any:
    """What a full name stands for."""
    value: Any = forkless
    for name in full.split(".")[1:]:
        if not hasattr(value, name):
            importlib.import_module(f"{value.__name__}.{name}")
        value = getattr(value, name)
    return value


def directive(full: str) -> str:
    """What has Sphinx tell of a name."""
    value = attribute(full)
    if not callable(value):  # its docstring is that of its type
        shown = f"   :value: {value!r}\n" if isinstance(value, (str, bytes, int, float)) else ""
        return f"```{{eval-rst}}\n.. py:data:: {full}\n{shown}```\n"
    kind = "class" if inspect.isclass(value) else "function"
    members = ""
    if inspect.isclass(value):
        # Classes that are attributes, as those of contexts, are told of under their own names.
        others = [name for name, member in vars(value).items() if inspect.isclass(member)]
        members = "   :members:\n" + (f"   :exclude-members: {', '.join(others)}\n" if others else "")
    return f"```{{eval-rst}}\n.. auto{kind}:: {full}\n{members}```\n"


def read_source(app: Any, docname: str, source: list[str]) -> None:
    """Gives a page its text, and links that lead somewhere on the site."""
    page = f"{docname}.md"
    for name, stands_at in ROOT_FILES.items():
        if stands_at == page:
            app.env.note_dependency(str(ROOT / name))
            source[0] = with_links((ROOT / name).read_text(), ROOT, page)
            return
    source[0] = with_links(source[0], (DOCS / page).parent, page)
    if docname == "reference/modules":
        source[0] += modules()
    for name in OPTIONAL if docname == "index" else ():
        if not (DOCS / f"{name}.md").exists():
            source[0] = source[0].replace(f"\n{name}\n", "\n")


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("source-read", read_source)
