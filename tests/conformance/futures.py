"""The test cases of `test.test_concurrent_futures` that use processes. Not every Python comes with them."""

import contextlib
import unittest
from importlib import import_module

from . import internals

internals.put_in_place()

# It waits some seconds for the threads of tests that failed, and then only warns.
vars(import_module("test.support.threading_helper"))["threading_cleanup"] = lambda *_: None

PACKAGE = "test.test_concurrent_futures"
# Since 3.12 it is a package; before, a single module.
PARTS = ["", *map(".test_{}".format, "as_completed deadlock init process_pool shutdown wait".split())]

for part in PARTS:
    with contextlib.suppress(ModuleNotFoundError):
        for name, value in vars(import_module(PACKAGE + part)).items():
            # Those for threads have no start method; those for "fork" differ from the others in nothing else.
            method = getattr(value, "ctx", None)
            if method in ("forkserver", "spawn") and issubclass(value, unittest.TestCase):
                globals()[name] = value
