import multiprocessing as mp
import sys


def main():
    with mp.get_context("spawn").Pool() as pool:
        pool.map(abs, [1])


if __name__ == "__main__" and len(sys.argv) > 1:
    main()
