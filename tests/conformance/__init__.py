"""CPython's own tests of processes, with forkless in place of `multiprocessing`.

Nothing of CPython's tests is copied: `cpython` is the installed `test` package under another name, in which
`import multiprocessing` gives forkless (see `redirect`). `suite` and `futures` make the test cases, `run`
runs one of them in a process of its own, `expected` lists what is not run and what is known to differ, each
with its reason, and `judge` compares the two. `python -m conformance` in the folder `tests` prints a table.
"""
