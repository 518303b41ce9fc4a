"""CPython's own tests of processes, on forkless: `import multiprocessing` is `forkless.install()`ed.

Nothing of CPython's tests is copied: they are those of the installed interpreter, under their own names.
`suite` and `futures` make the test cases, `run` runs one of them in a process of its own, in an
`environment` whose interpreters all have the installation, and `guard` proves that they do. `internals` puts
in place what tests use of the insides of the standard library beside their subject. `expected` lists what is
not run and what is known to differ, each with its reason, and `judge` compares the two. `./dev conformance`
prints a table of all Pythons.
"""
