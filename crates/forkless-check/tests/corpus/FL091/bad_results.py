import multiprocessing as mp
import threading


def numbers(count):  # expect: FL091
    yield from range(count)


def squares(count):
    return (number**2 for number in range(count))  # expect: FL091


def opened(path):
    return open(path)  # expect: FL091


def locked(_):
    return threading.Lock()  # expect: FL091


def made(_):
    return lambda: 1  # expect: FL091


def queued(_):
    return mp.Queue()  # expect: FL091


with mp.Pool() as pool:
    for function in (1,):
        pool.map(numbers, [1])
        pool.map(squares, [1])
        pool.map(opened, ["path"])
        pool.map(locked, [1])
        pool.map(made, [1])
        pool.map(queued, [1])
