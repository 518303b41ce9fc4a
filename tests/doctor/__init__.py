"""Programs for the tests of forkless doctor."""
