import multiprocessing as mp

settings = None


def work():
    print(settings, names)  # expect: FL012


if __name__ == "__main__":
    settings = open("settings").read()
    names = ["a"]
    mp.get_context("spawn").Process(target=work).start()
