import torch.multiprocessing as mp

mp.set_start_method("forkserver")  # expect: FL030


def work():
    return mp.get_start_method()
