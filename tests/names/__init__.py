"""The public names of `multiprocessing`, held against those of forkless; the source of docs/names.md.

`survey` finds what there is, `differences` says by hand what is not the same and why, and `page` makes the
page of both. What the standard library has depends on the version of Python, so `standard.json` keeps it for
each: `python -m names` in the folder `tests` writes the part of the Python that runs it, and the page.
"""
