import threading
from multiprocessing import JoinableQueue, Queue

queue = Queue()


def numbers():
    yield 1


def main():
    def local():
        pass

    queue.put(lambda: 1)  # expect: FL081
    queue.put(number for number in range(3))  # expect: FL081
    queue.put(("key", local))  # expect: FL081
    JoinableQueue().put(threading.Lock())  # expect: FL081
    queue.put(open("file"))  # expect: FL081
    queue.put(numbers())  # expect: FL081
