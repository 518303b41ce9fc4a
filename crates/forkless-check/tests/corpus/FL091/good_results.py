import multiprocessing as mp


def numbers(count):
    return list(range(count))


def read(path):
    with open(path) as file:
        return file.read()


def generate():
    yield 1


with mp.Pool() as pool:
    pool.map(numbers, [1])
    pool.map(read, ["path"])
list(map(generate, []))
mp.Process(target=generate).start()
