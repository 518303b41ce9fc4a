import multiprocessing as mp


def read(reader):
    while True:
        try:
            print(reader.recv())
        except EOFError:
            break


def main():
    reader, writer = mp.Pipe(duplex=False)
    child = mp.Process(target=read, args=(reader,))  # expect: FL131
    child.start()
    writer.send(1)
    writer.close()
    child.join()
