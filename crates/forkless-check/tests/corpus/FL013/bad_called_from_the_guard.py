# target: 3.14
import multiprocessing
import time

time.sleep(1)  # expect: FL013


def main():
    with multiprocessing.Pool() as pool:
        pool.map(abs, [1])


if __name__ == "__main__":
    main()
