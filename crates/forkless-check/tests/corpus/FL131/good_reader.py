import multiprocessing as mp


def read(reader):
    while True:
        try:
            print(reader.recv())
        except EOFError:
            break


def careful(reader, writer):
    writer.close()
    read(reader)
    while True:
        try:
            print(reader.recv())
        except EOFError:
            break


def marked(reader):
    while (item := reader.recv()) is not None:
        print(item)


def main():
    reader, writer = mp.Pipe(duplex=False)
    mp.Process(target=careful, args=(reader, writer)).start()
    mp.Process(target=marked, args=(reader,)).start()
    mp.get_context("spawn").Process(target=read, args=(reader,)).start()
    writer.send(None)
