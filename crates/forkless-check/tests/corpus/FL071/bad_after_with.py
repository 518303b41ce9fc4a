from multiprocessing import Pool


def late(items):
    with Pool() as pool:
        result = pool.map_async(abs, items)
        lazy = pool.imap(abs, items)
        all_of_them = [pool.apply_async(abs, (item,)) for item in items]
    print(result.get())  # expect: FL071
    for item in lazy:  # expect: FL071
        print(item)
    return [each.get() for each in all_of_them]  # expect: FL071


def returned(items):
    with Pool() as pool:
        return pool.imap_unordered(abs, items)  # expect: FL071
