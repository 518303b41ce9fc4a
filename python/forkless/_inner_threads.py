"""How many threads libraries use in a worker: BLAS, OpenMP, and others that fill the machine by themselves.

Most of them read a variable of the environment, once, when they are loaded. One that has been loaded already,
in the template of this worker, must be told: it has a function for that. Either way a library gets the number
that the environment now says, so it makes no difference when it was loaded.

The variables are those that the libraries document. The package `threadpoolctl` also knows the functions; it
is not used, so that what happens does not depend on whether it is installed, but tests compare with it.
"""

import os
import sys
from collections.abc import Collection
from typing import Literal, NamedTuple

_OPENMP = "OMP_NUM_THREADS"
# Those that are heeded first, and what is heeded in their absence.
_FALLBACKS = {
    _OPENMP: None,
    "OPENBLAS_NUM_THREADS": _OPENMP,
    "MKL_NUM_THREADS": _OPENMP,
    "BLIS_NUM_THREADS": _OPENMP,
    "NUMEXPR_NUM_THREADS": _OPENMP,
    "NUMBA_NUM_THREADS": None,
    "POLARS_MAX_THREADS": None,
    "RAYON_NUM_THREADS": None,
    "TF_NUM_INTRAOP_THREADS": None,
}


class _Library(NamedTuple):
    """A library that may be loaded.

    Attributes:
        files: how the names of its files begin.
        setters: its function that takes the number; of builds that differ, one each.
        variable: what it reads.
    """

    files: tuple[str, ...]
    setters: tuple[str, ...]
    variable: str


_LIBRARIES = (
    _Library(
        ("libopenblas", "libscipy_openblas"),
        # The wheels of numpy and scipy have builds with names of their own; 64 is for 64-bit indices.
        tuple(
            f"{prefix}openblas_set_num_threads{suffix}"
            for prefix in ("", "scipy_")
            for suffix in ("", "64_", "_64")
        ),
        "OPENBLAS_NUM_THREADS",
    ),
    _Library(("libmkl_rt",), ("MKL_Set_Num_Threads",), "MKL_NUM_THREADS"),
    _Library(("libblis",), ("bli_thread_set_num_threads",), "BLIS_NUM_THREADS"),
    # Of the thread that calls it: this one, which also runs the tasks.
    _Library(("libgomp", "libomp", "libiomp5"), ("omp_set_num_threads",), _OPENMP),
)

# Python modules that have pools of their own, their function that takes the number, and what they read.
_MODULES = {
    "numexpr": ("set_num_threads", "NUMEXPR_NUM_THREADS"),
    "pyarrow": ("set_cpu_count", _OPENMP),
    "torch": ("set_num_threads", _OPENMP),
}


def limit(threads: "int | Literal['auto']", budget: int, chosen: Collection[str]) -> None:
    """Limits the threads of libraries in this process, those that are loaded and those to come.

    Args:
        threads: how many; "auto" for the budget, where the environment does not say otherwise.
        budget: how many CPUs this process may use.
        chosen: variables that have just been set or removed on purpose: they stay as they are.
    """
    if threads == "auto":
        _set(budget, chosen, heeded={name for name, value in os.environ.items() if value})
    else:
        _set(threads, chosen, heeded=set())
    _tell_libraries()
    _tell_modules()


def _set(number: int, chosen: Collection[str], heeded: set[str]) -> None:
    for name, fallback in _FALLBACKS.items():
        if name not in chosen and not heeded & {name, fallback}:
            os.environ[name] = str(number)


def _number(variable: str) -> int | None:
    """What a library that reads this variable would make of the environment."""
    text = os.environ.get(variable) or os.environ.get(_FALLBACKS[variable] or "", "")
    # OpenMP takes a list, one number for each level of nesting.
    text = text.partition(",")[0].strip()
    return int(text) if text.isdecimal() and int(text) > 0 else None


def _tell_libraries() -> None:
    for path in _loaded():
        for library in _LIBRARIES:
            number = _number(library.variable)
            if os.path.basename(path).startswith(library.files) and number is not None:
                _call(path, library.setters, number)


def _loaded() -> set[str]:
    """The paths of the shared libraries in this process, as they were when it loaded them."""
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        paths = (line.rstrip("\n").removesuffix(" (deleted)") for line in maps)
        return {path[path.index("/") :] for path in paths if ".so" in path and "/" in path}


def _call(path: str, setters: tuple[str, ...], number: int) -> None:
    import ctypes

    try:
        library = ctypes.CDLL(path, os.RTLD_NOLOAD)
    except OSError:
        return  # It was loaded by another path, which leads to another file by now.
    for setter in setters:
        function = getattr(library, setter, None)
        if function is not None:
            # An `int` or, in BLIS, a `long`: a small number is the same in the register of either.
            function.argtypes, function.restype = [ctypes.c_long], None
            function(number)


def _tell_modules() -> None:
    for name, (setter, variable) in _MODULES.items():
        function, number = getattr(sys.modules.get(name), setter, None), _number(variable)
        if function is not None and number is not None:
            function(number)
