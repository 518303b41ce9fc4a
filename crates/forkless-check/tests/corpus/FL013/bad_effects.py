import multiprocessing as mp
import os
import subprocess


def prepare():
    os.mkdir("results")


print("starting")  # expect: FL013
prepare()  # expect: FL013
subprocess.run(["date"])  # expect: FL013
log = open("log", "w")  # expect: FL013

if __name__ == "__main__":
    mp.get_context("spawn").Process(target=print).start()
