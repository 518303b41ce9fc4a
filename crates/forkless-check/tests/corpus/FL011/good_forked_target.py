import multiprocessing as mp


def main():
    def local():
        print("hello")

    mp.get_context("fork").Process(target=local).start()
    mp.get_context("fork").Process(target=lambda: print("hello")).start()


main()
