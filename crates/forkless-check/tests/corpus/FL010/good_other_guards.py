import multiprocessing as mp
import sys

context = mp.get_context("spawn")
if mp.parent_process() is None:
    context.Process(target=print).start()
if mp.current_process().name == "MainProcess":
    context.Process(target=print).start()
if __name__ != "__main__":
    sys.exit()
context.Process(target=print).start()
