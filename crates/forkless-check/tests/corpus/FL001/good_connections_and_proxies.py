import multiprocessing as mp


def work(connection, shared):
    connection.send(shared)


if __name__ == "__main__":
    reader, writer = mp.Pipe()
    with mp.Manager() as manager:
        shared, event = manager.list(), manager.Event()
        child = mp.get_context("spawn").Process(target=work, args=(writer, shared), kwargs={"event": event})
        child.start()
        reader.recv()
