import multiprocessing as mp
import os
import socket


def work():
    print("child")


def main():
    server = socket.socket()
    server.bind(("", 0))
    server.listen()
    mp.Process(target=work).start()  # expect: FL130
    server.accept()


def raw():
    server = socket.create_server(("", 0))
    pid = os.fork()  # expect: FL130
    if pid == 0:
        work()
        os._exit(0)
    server.accept()
