from multiprocessing.shared_memory import SharedMemory


def read(name):
    segment = SharedMemory(name)
    print(segment.buf[0])
    segment.close()


def clear(name):
    SharedMemory(name).unlink()
    try:
        segment = SharedMemory(name, create=True, size=1)
    except FileExistsError:
        stale = SharedMemory(name)
        stale.unlink()
    else:
        segment.unlink()
