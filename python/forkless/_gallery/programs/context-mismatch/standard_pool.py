"""An event as the argument of a pool's task."""

import multiprocessing as mp


def wait(event):
    return event.wait(60)


if __name__ == "__main__":
    event = mp.Event()
    with mp.Pool(1) as pool:
        answer = pool.apply_async(wait, (event,))
        event.set()
        print("task sees the event set:", answer.get())
