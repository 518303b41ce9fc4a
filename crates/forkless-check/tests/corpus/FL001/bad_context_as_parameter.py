import multiprocessing


class Runner:
    def __init__(self, context):
        self.context = context
        self.stop = multiprocessing.Event()

    def run(self):
        self.process = self.context.Process(target=print, args=(self.stop,))  # expect: FL001
        self.process.start()


if __name__ == "__main__":
    Runner(multiprocessing.get_context("forkserver")).run()
