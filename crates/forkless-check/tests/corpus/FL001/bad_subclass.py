import multiprocessing as mp

SPAWN = mp.get_context("spawn")


class Worker(SPAWN.Process):
    def __init__(self, queue):
        super().__init__()
        self.queue = queue

    def run(self):
        self.queue.put(1)


if __name__ == "__main__":
    queues = [mp.Queue() for _ in range(3)]
    workers = [Worker(queue) for queue in queues]  # expect: FL001
