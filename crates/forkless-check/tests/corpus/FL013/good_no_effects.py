import logging
import multiprocessing as mp
import os
import sys

logging.basicConfig()
if not os.environ.get("HOME"):
    print("there is no home")
    sys.exit(1)
words = open("words").read()


def main():
    print("starting")
    mp.get_context("spawn").Process(target=print).start()


if __name__ == "__main__":
    main()
