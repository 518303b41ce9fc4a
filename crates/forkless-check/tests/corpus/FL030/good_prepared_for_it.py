import contextlib
import multiprocessing as mp


class Trainer:
    def __init__(self):
        if mp.get_start_method(allow_none=True) is None:
            mp.set_start_method("spawn")
        current = mp.get_start_method(allow_none=True)
        if current != "spawn":
            mp.set_start_method("spawn")


def library():
    try:
        mp.set_start_method("spawn")
    except RuntimeError:
        pass
    with contextlib.suppress(RuntimeError):
        mp.set_start_method("spawn")
    mp.set_start_method("spawn", force=True)
