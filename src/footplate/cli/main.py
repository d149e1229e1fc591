"""The entry point of the command `footplate`."""

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence

from footplate import __version__
from footplate.cli.parsing import Parser
from footplate.cli.ranks import with_others
from footplate.cli.streams import clean_errors, open_streams, output_has_reader, say_error, settle_output
from footplate.cli.unknown import refuse_unknown

# In the order of the help text. Each module defines add_parser(subparsers), which sets the default `run` to a function
# that takes the parsed arguments and returns the exit code. Modules import what they need only when they run.
_COMMANDS = (
    "train",
    "test",
    "recipes",
    "check",
    "plan",
    "explain",
    "diff",
    "analyze",
    "report",
    "sweep",
    "replay",
    "migrate",
    "checkpoint",
    "env",
)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the whole command line."""
    parser = Parser(
        prog="footplate",
        description="Train, test and inspect PyTorch models, driven by config files of both OpenMMLab generations.",
        epilog="footplate COMMAND --help explains a command.",
    )
    parser.add_argument("--version", action="version", version=f"footplate {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in _COMMANDS:
        _prepare(importlib.import_module(f"footplate.cli.{name}").add_parser(subparsers))
    return parser


def _prepare(command: argparse.ArgumentParser) -> None:
    """Adds `--debug` to a command and its subcommands, without a default, so that no parser resets another's."""
    for action in command._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                _prepare(inner)
    command.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="show the traceback of an error"
    )
    command.set_defaults(command=command)
    if isinstance(command, Parser):
        command.write_short_usage()


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: The arguments. The default is `sys.argv[1:]`.

    Returns:
        The exit code: 0 for success; 1 if the answer of the command is no, or if user code raised an error; 2 for
        invalid input; 3 for a non-finite loss; 4 for a run that finished but could not be saved; 129, 130 or 143 if a
        signal ended it.
    """
    open_streams()
    clean_errors()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # output may contain characters that its encoding lacks
    arguments, unknown = build_parser().parse_known_args(argv)
    if unknown:
        refuse_unknown(arguments.command, arguments, unknown)
    arguments.words = list(sys.argv[1:] if argv is None else argv)
    debug = getattr(arguments, "debug", False)
    # Modules in custom_imports are found in the current folder, as with `python -m`.
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    code = 0
    try:
        code = with_others(lambda: int(arguments.run(arguments)), quiet=not debug)
        sys.stdout.flush()
    except KeyboardInterrupt:
        if debug:
            raise
        sys.stderr.write("interrupted\n")
        return 130
    except Exception as error:
        is_unread = isinstance(error, BrokenPipeError) and not output_has_reader()
        settle_output()
        if is_unread:  # the reader, such as `head`, has exited, which is not an error
            return code
        from footplate.cli.failures import describe_failure
        from footplate.cli.generations import name_own_key
        from footplate.wrap import wrap_text

        name_own_key(error, getattr(arguments, "cfg", None))
        told = None if debug else describe_failure(error, getattr(arguments, "place", ""))
        if told is None:
            raise
        say_error(wrap_text(told[0]) if sys.stderr.isatty() else told[0])
        return told[1]
    return code
