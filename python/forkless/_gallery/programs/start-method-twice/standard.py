"""The start method set twice: once by the program, once by a library it uses."""

import multiprocessing as mp


def library():
    mp.set_start_method("spawn")


if __name__ == "__main__":
    mp.set_start_method("spawn")
    library()
    print("start method:", mp.get_start_method())
    child = mp.Process(target=print, args=("hello from the child",))
    child.start()
    child.join()
    print("child exit code:", child.exitcode)
