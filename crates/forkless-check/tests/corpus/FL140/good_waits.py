from concurrent.futures import ProcessPoolExecutor

outer = ProcessPoolExecutor()
inner = ProcessPoolExecutor()


def leaf(item):
    return item


def node(item):
    return inner.submit(leaf, item).result()


def deep(item):
    with ProcessPoolExecutor() as executor:
        return executor.submit(deep, item - 1).result() if item else item


def main():
    outer.submit(deep, 3).result()
    outer.submit(node, 1).result()
    outer.submit(leaf, 1).result()
