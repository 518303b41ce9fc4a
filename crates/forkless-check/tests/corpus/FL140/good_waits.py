from concurrent.futures import ProcessPoolExecutor

outer = ProcessPoolExecutor()
inner = ProcessPoolExecutor()


def leaf(item):
    return item


def node(item):
    return inner.submit(leaf, item).result()


def main():
    outer.submit(node, 1).result()
    outer.submit(leaf, 1).result()
