import multiprocessing as mp

if __name__ == "__main__":

    def work():
        print("hello")

    class Task:
        pass

    context = mp.get_context("forkserver")
    context.Process(target=work).start()  # expect: FL011
    with context.Pool(1) as pool:
        pool.apply(Task)  # expect: FL011
