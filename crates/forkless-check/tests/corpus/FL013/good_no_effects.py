import logging
import multiprocessing as mp

logging.basicConfig()
words = open("words").read()


def main():
    print("starting")
    mp.get_context("spawn").Process(target=print).start()


if __name__ == "__main__":
    main()
