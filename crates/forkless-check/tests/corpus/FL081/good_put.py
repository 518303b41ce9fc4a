import queue
from multiprocessing import Manager, Queue


def work():
    pass


def main():
    Queue().put(work)
    Queue().put([number for number in range(3)])
    queue.Queue().put(lambda: 1)
    Queue().put(print)
    Queue().put(Manager().list())
