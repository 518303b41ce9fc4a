import multiprocessing as mp


def helper():
    return LIMIT  # expect: FL012


def work(item):
    return item < helper()


def main():
    with mp.get_context("spawn").Pool() as pool:
        pool.map(work, [1])


if __name__ == "__main__":
    import argparse

    LIMIT = argparse.ArgumentParser().parse_args().limit
    main()
