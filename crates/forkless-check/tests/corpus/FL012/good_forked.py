import multiprocessing as mp

settings = None


def work():
    print(settings)


if __name__ == "__main__":
    settings = 1
    mp.get_context("fork").Process(target=work).start()
