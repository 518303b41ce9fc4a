"""The test cases of `test._test_multiprocessing`. Children import it too: targets are methods."""

from importlib import import_module

import forkless

cpython = import_module("conformance.cpython._test_multiprocessing")
cpython.install_tests_in_module_dict(globals(), forkless.get_start_method())
del globals()["setUpModule"], globals()["tearDownModule"]
