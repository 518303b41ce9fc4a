"""An event as the argument of a pool's task."""

import forkless as mp


def wait(event):
    return event.wait(60)


event = mp.Event()
with mp.Pool(1) as pool:
    answer = pool.apply_async(wait, (event,))
    event.set()
    print("task sees the event set:", answer.get())
