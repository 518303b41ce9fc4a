from multiprocessing import Pool


class Failed(Exception):  # expect: FL090
    def __init__(self, path, line):
        super().__init__(f"{path}:{line}")
        self.path, self.line = path, line


class Named(ValueError):  # expect: FL090
    def __init__(self, message, *, code):
        super().__init__(message)
        self.code = code


def check(item):
    if item:
        raise Failed("path", 1)
    raise Named("message", code=1)


def work(item):
    check(item)


with Pool() as pool:
    pool.map(work, [1])
