import multiprocessing as mp

print("starting")
if __name__ == "__main__":
    mp.Process(target=print).start()
