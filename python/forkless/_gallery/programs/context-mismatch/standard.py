"""An event of the default context, handed to children of other start methods."""

import multiprocessing as mp


def wait(event):
    print("child sees the event set:", event.wait(60))


if __name__ == "__main__":
    for method in ("forkserver", "spawn"):
        event = mp.Event()
        child = mp.get_context(method).Process(target=wait, args=(event,))
        child.start()
        event.set()
        child.join()
        print("child exit code:", child.exitcode)
