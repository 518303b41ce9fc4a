"""A signal handler that puts into the queue that it may have interrupted."""

import signal

import forkless as mp

signals = 0


def report(signum, frame):
    global signals
    signals += 1
    queue.put("from the handler")
    signal.setitimer(signal.ITIMER_REAL, 0.0005)


def count(queue, answer):
    received = 0
    while queue.get() is not None:
        received += 1
    answer.put(received)


queue, answer = mp.Queue(), mp.Queue()
child = mp.Process(target=count, args=(queue, answer))
child.start()
signal.signal(signal.SIGALRM, report)
signal.setitimer(signal.ITIMER_REAL, 0.0005)
for number in range(100_000):
    queue.put(number)
signal.signal(signal.SIGALRM, signal.SIG_IGN)
queue.put(None)
print("put", 100_000 + signals, "items, received", answer.get())
child.join()
print("child exit code:", child.exitcode)
