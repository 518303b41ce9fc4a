from multiprocessing import Process, Queue


class Runner:
    def __init__(self):
        self.results = Queue()
        self.workers = []

    def start(self, count):
        for number in range(count):
            worker = Process(target=self.work, args=(number, self.results))
            worker.start()
            self.workers.append(worker)

    def finish(self):
        for worker in self.workers:
            worker.join()  # expect: FL080
        return [self.results.get() for _ in self.workers]

    def work(self, number, results):
        results.put(number)


def work(number, results):
    results.put(number)


def main():
    results, workers, by_name = Queue(), [], {}
    for number in range(4):
        worker = Process(target=work, args=(number, results))
        workers.append(worker)
        by_name[str(number)] = worker
        worker.start()
    for worker in workers:
        worker.join()  # expect: FL080
    for name, worker in by_name.items():
        worker.join()  # expect: FL080
    while not results.empty():
        print(results.get())
