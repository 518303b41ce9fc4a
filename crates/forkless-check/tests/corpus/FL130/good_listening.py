import multiprocessing as mp
import os
import socket


def work():
    print("child")


def serve(server):
    server.accept()


def prefork():
    server = socket.create_server(("", 0))
    mp.Process(target=serve, args=(server,)).start()


def closed():
    server = socket.create_server(("", 0))
    if os.fork() == 0:
        server.close()
        os._exit(0)


def ended():
    with socket.create_server(("", 0)) as server:
        server.accept()
    mp.Process(target=work).start()


def spawned():
    server = socket.create_server(("", 0))
    mp.get_context("spawn").Process(target=work).start()
    server.accept()
