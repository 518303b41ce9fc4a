"""Where the files of this process's control groups are."""


def groups(root: str, table: str, controller: str = "") -> list[str]:
    """The directories of this process's control group and of those around it, innermost first.

    Args:
        root: where control groups are mounted.
        table: which groups this process is in, as `/proc/self/cgroup` tells it.
        controller: the controller of version 1 whose groups are meant; "" for the groups of version 2.

    Returns:
        Paths, which need not exist; none if the table does not tell.
    """
    try:
        with open(table, encoding="utf-8", errors="surrogateescape") as file:
            rows = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return []
    path = next((row[2] for row in rows if len(row) == 3 and controller in row[1].split(",")), None)
    if path is None:
        return []
    # In a container the path may name a group outside of what is mounted ("/../..").
    parts = [part for part in path.split("/") if part not in ("", "..")]
    root = f"{root}/{controller}" if controller else root
    return ["/".join([root, *parts[:depth]]) for depth in range(len(parts), -1, -1)]
