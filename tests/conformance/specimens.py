"""A test case with every outcome there is, to test the judge with."""

import contextlib
import os
import signal
import sys
import unittest


class Specimens(unittest.TestCase):
    def test_dies(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def test_fails(self) -> None:
        self.fail("on purpose")

    def test_hangs(self) -> None:
        import multiprocessing

        multiprocessing.Event().wait()

    def test_is_not_run(self) -> None:
        self.fail("it is run")

    def test_makes_a_standard_lock(self) -> None:
        from forkless import _stdlib

        with contextlib.suppress(AssertionError):
            _stdlib.context._default_context.Lock()
        _stdlib.context._default_context.Lock()

    def test_makes_a_standard_process(self) -> None:
        from forkless import _stdlib

        _stdlib.context.SpawnProcess().start()

    def test_passes(self) -> None:
        import multiprocessing

        import forkless

        assert multiprocessing is forkless is sys.modules["multiprocessing"]
        process = multiprocessing.Process(target=int)
        process.start()
        process.join()
        assert process.exitcode == 0

    def test_skips(self) -> None:
        self.skipTest("on purpose")

    def test_with_parts(self) -> None:
        for number in range(3):
            with self.subTest(number=number):
                assert number != 1
