from concurrent.futures import ProcessPoolExecutor


class All(Exception):
    def __init__(self, path, line):
        super().__init__(path, line)


class NoSuper(Exception):
    def __init__(self, path, line):
        self.path, self.line = path, line


class Reduced(Exception):
    def __init__(self, path, line):
        super().__init__(f"{path}:{line}")
        self.path, self.line = path, line

    def __reduce__(self):
        return Reduced, (self.path, self.line)


class Optional(Exception):
    def __init__(self, message, code=1):
        super().__init__(message)


class NotRaisedThere(Exception):
    def __init__(self, path, line):
        super().__init__(f"{path}:{line}")


def work(item):
    raise (All, NoSuper, Reduced, Optional)[item](1, 2)


def other(item):
    raise Optional("message")


def third(item):
    raise Reduced(1, 2)


def main():
    with ProcessPoolExecutor() as executor:
        executor.map(work, [1])
        executor.map(other, [1])
        executor.map(third, [1])
    raise NotRaisedThere("path", 1)
