"""A test case with every outcome there is, to test the judge with."""

import os
import signal
import unittest

import forkless


class Specimens(unittest.TestCase):
    def test_dies(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def test_fails(self) -> None:
        self.fail("on purpose")

    def test_hangs(self) -> None:
        forkless.Event().wait()

    def test_needs_what_is_missing(self) -> None:
        from conformance.redirect import absent

        absent("Thing", "not there yet")()

    def test_passes(self) -> None:
        process = forkless.Process(target=int)
        process.start()
        process.join()
        assert process.exitcode == 0

    def test_skips(self) -> None:
        self.skipTest("on purpose")

    def test_with_parts(self) -> None:
        for number in range(3):
            with self.subTest(number=number):
                assert number != 1
