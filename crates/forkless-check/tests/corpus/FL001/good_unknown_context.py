import multiprocessing as mp


def start(context, method):
    event = mp.get_context(method).Event()
    context.Process(target=print, args=(event,)).start()
