import multiprocessing as mp
import os

import grpc
import polars as pl
import torch
from torch import multiprocessing


def train(model):
    model.cuda()
    mp.Process(target=print).start()  # expect: FL120


def move(model):
    model.to("cuda:0")
    with multiprocessing.get_context("fork").Pool() as pool:  # expect: FL120
        pool.map(abs, [1])


def serve():
    channel = grpc.insecure_channel("localhost")
    if os.fork() == 0:  # expect: FL120
        os._exit(0)
    return channel


def read(path):
    frame = pl.read_csv(path)
    with mp.Pool() as pool:  # expect: FL120
        return pool.map(abs, frame)


def make():
    table = torch.zeros(3, device="cuda:1")
    mp.Process(target=print, args=(table,)).start()  # expect: FL120


def seed():
    torch.cuda.manual_seed(1)
    mp.Process(target=print).start()  # expect: FL120
