import asyncio
import queue
import signal
import threading

tasks = queue.Queue()
stopping = threading.Event()
signal.signal(signal.SIGTERM, signal.SIG_IGN)


def stop(number, frame):
    global stopped
    stopped = True
    stopping.set()


async def main():
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, tasks.put, None)
    signal.signal(signal.SIGINT, stop)
