"""`python -m names`: notes what this Python's standard library has, and writes docs/names.md."""

from .page import PAGE, note, render

note()
PAGE.write_text(render(), encoding="utf-8")
