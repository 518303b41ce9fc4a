import multiprocessing as mp

table = {key: str(key) for key in range(10**6)}  # expect: FL050
COUNT = 3_000_000
rows = [[number] for number in range(COUNT)]  # expect: FL050


def work(key):
    return table[key]


def sums(rows):
    print(len(rows))


if __name__ == "__main__":
    with mp.get_context("fork").Pool() as pool:
        pool.map(work, [1])
    mp.Process(target=sums, args=(rows,)).start()
