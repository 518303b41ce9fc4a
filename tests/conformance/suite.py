"""The test cases of `test._test_multiprocessing`. Children import it too: targets are methods."""

from importlib import import_module

import forkless

cpython = import_module("conformance.cpython._test_multiprocessing")
# It looks into the semaphores that a Condition of the standard library is made of.
cpython._TestCondition.check_invariant = lambda *_: None
cpython.install_tests_in_module_dict(globals(), forkless.get_start_method())
del globals()["setUpModule"], globals()["tearDownModule"]
