import multiprocessing as mp
import os

lock = mp.Lock()


def alone():
    process = mp.Process(target=print, args=(1,))
    process.start()
    process.kill()


def put(queue):
    queue.put(1)


class Tracker:
    def start(self):
        self.queue = mp.Queue()
        self.process = mp.Process(target=self.work, args=(self.queue,))

    def read(self):
        return self.queue.get()

    def stop(self):
        self.process.terminate()

    @staticmethod
    def work(queue):
        queue.put(1)


def own():
    queues, workers = [], []
    for _ in range(3):
        queue = mp.Queue()
        queues.append(queue)
        workers.append(mp.Process(target=put, args=(queue,)))
    for queue, worker in zip(queues, workers):
        queue.put("stop")
        worker.terminate()


def last():
    queue = mp.Queue()
    process = mp.Process(target=print, args=(queue,))
    process.start()
    print(queue.get())
    process.terminate()


def leave():
    with lock:
        pass
    os._exit(1)
