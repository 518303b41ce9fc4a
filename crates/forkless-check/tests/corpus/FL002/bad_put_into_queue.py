from multiprocessing import Event, Queue, SimpleQueue


class Sender:
    def __init__(self):
        self.queue = Queue()
        self.other = SimpleQueue()
        self.event = Event()

    def send(self):
        self.queue.put(self.event)  # expect: FL002
        self.other.put(("event", self.event))  # expect: FL002
