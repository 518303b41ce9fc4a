"""Names of what `multiprocessing` is made of inside, which are public there: the standard library's own.

Programs import them, often only because an editor has proposed it, so they have to be there. Nothing in
forkless uses them. What they do they do for the standard library: a `heap.Heap` made by hand works, but holds
none of what forkless shares.
"""

from . import _stdlib

NAMES = {
    "connection": (
        "ConnectionWrapper",
        "SocketClient",
        "SocketListener",
        "XmlClient",
        "XmlListener",
        "rebuild_connection",
        "reduce_connection",
    ),
    "forkserver": (
        "MAXFDS_TO_SEND",
        "SIGNED_STRUCT",
        "connect_to_new_process",
        "get_inherited_fds",
        "main",
        "read_signed",
        "write_signed",
    ),
    "heap": ("Arena", "Heap", "rebuild_arena", "reduce_arena"),
    "managers": (
        "ProcessLocalSet",
        "all_methods",
        "listener_client",
        "rebuild_as_list",
        "reduce_array",
        "view_types",
    ),
    "pool": (
        "ExceptionWithTraceback",
        "MaybeEncodingError",
        "job_counter",
        "mapstar",
        "rebuild_exc",
        "starmapstar",
        "worker",
    ),
    "resource_tracker": ("cleanup_noop", "main"),
    "sharedctypes": (
        "class_cache",
        "make_property",
        "prop_cache",
        "rebuild_ctype",
        "reduce_ctype",
        "template",
    ),
    "spawn": (
        "get_command_line",
        "get_preparation_data",
        "import_main_path",
        "old_main_modules",
        "prepare",
        "spawn_main",
    ),
}


def find(module: str, name: str) -> object:
    """What a module of forkless has under such a name.

    Args:
        module: "forkless.heap", say.
        name: of an attribute that the module itself does not have.

    Raises:
        AttributeError: it is none of these names.
    """
    part = module.rpartition(".")[2]
    if name not in NAMES.get(part, ()):
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    return getattr(getattr(_stdlib, part), name)
