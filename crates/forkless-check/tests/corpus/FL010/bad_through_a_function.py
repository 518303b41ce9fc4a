import multiprocessing


def main():
    process = multiprocessing.Process(target=print)
    process.start()  # expect: FL010
    process.join()


multiprocessing.set_start_method("spawn", force=True)
main()
