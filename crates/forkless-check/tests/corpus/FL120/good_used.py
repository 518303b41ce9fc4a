import multiprocessing as mp

import numpy as np
import torch


def work(model):
    model.cuda()


def train(model):
    if torch.cuda.is_available():
        mp.Process(target=work, args=(model,)).start()
    print(np.zeros(3))
    mp.Process(target=print).start()
    model.cuda()


def configured(config):
    settings = config(device="cuda")
    mp.Process(target=print, args=(settings,)).start()


def spawned(model):
    model.cuda()
    mp.get_context("spawn").Process(target=work, args=(model,)).start()


def either(model, parallel):
    if parallel:
        mp.Process(target=work, args=(model,)).start()
    else:
        model.cuda()
