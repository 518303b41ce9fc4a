import multiprocessing as mp


def wait(event):
    event.wait()


if __name__ == "__main__":
    event = mp.Event()
    child = mp.get_context("spawn").Process(target=wait, args=(event,))  # expect: FL001
    child.start()
