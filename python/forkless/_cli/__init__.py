"""The command `forkless`: one module for each sub-command, loaded when the command is used."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

# Each has a function `add_to(commands)`, which adds its parser and sets `run`: options in, exit code out.
COMMANDS = (
    "forkless._gallery._command",
    "forkless._cli._check",
    "forkless._cli._doctor",
    "forkless._cli._memory",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one sub-command.

    Args:
        arguments: The command line without its first word; that of this process if None.

    Returns:
        The exit code: 0 if all is well, 1 if not, 2 for a command line that makes no sense, 130 after Ctrl-C.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    from . import _program

    if _program.is_one(arguments):
        return _program.run(arguments)
    options = _parse(arguments)
    try:
        code: int = options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("forkless: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read the output has seen enough. Nothing may be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="forkless",
        usage="forkless [-h] [--version] COMMAND ...\n"
        "       forkless SCRIPT.py | -m MODULE | -c CODE [ARGUMENT ...]",
        description="Process parallelism for Python that cannot bite.",
        epilog="A script, module or code runs as with `python`, and `import multiprocessing` means forkless "
        "in it. The name of a script ends in .py or has a path: ./script.",
    )
    parser.add_argument(
        "--version", action=_Version, nargs=0, help="show the versions of forkless and Python"
    )
    commands = parser.add_subparsers(prog="forkless", title="commands", metavar="COMMAND", required=True)
    for module in COMMANDS:
        import_module(module).add_to(commands)
    word = arguments[0] if arguments else "-"
    if not word.startswith("-") and word not in commands.choices:
        parser.error(
            f"{word!r} is neither a command ({', '.join(commands.choices)}) nor a program: the name of a "
            f"script ends in .py or has a path (./{word}), and a module is run by -m {word}"
        )
    return parser.parse_args(arguments)


class _Version(argparse.Action):
    """Asks for the version only when it is to be shown: that reads the metadata of the installed package."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from platform import python_implementation, python_version

        from .. import __version__

        print(f"forkless {__version__} ({python_implementation()} {python_version()})")
        parser.exit()
