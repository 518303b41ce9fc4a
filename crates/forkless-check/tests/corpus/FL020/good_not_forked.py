import multiprocessing as mp
import os
import threading


def main():
    threading.Thread(target=print).start()
    mp.get_context("spawn").Process(target=print).start()


def run(command):
    threading.Thread(target=print).start()
    if os.fork() == 0:
        os.execvp(command, [command])
