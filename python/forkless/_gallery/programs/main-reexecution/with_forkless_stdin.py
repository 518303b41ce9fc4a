"""A program read from standard input: no file that a child could import."""

import forkless as mp


def greet(name):
    print("child says hello to", name)


child = mp.get_context("spawn").Process(target=greet, args=("parent",))
child.start()
child.join()
print("child exit code:", child.exitcode)
