"""The test cases of `test._test_multiprocessing`. Children import it too: targets are methods."""

from . import internals  # before the tests, which look for them

internals.put_in_place()

import multiprocessing  # noqa: E402

from test import _test_multiprocessing as cpython  # noqa: E402

internals.adapt(cpython)
cpython.install_tests_in_module_dict(globals(), multiprocessing.get_start_method())
internals.take_time(globals())
# What they do for a whole module, `run` does for each case.
del globals()["setUpModule"], globals()["tearDownModule"]
