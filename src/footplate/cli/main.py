"""Defines the entry point of the `footplate` command."""

import os
import signal
import sys
import traceback
from argparse import SUPPRESS, Namespace, _SubParsersAction
from collections.abc import Sequence
from importlib import import_module

from footplate.cli.arguments import Parser, refuse_unknown
from footplate.cli.launching import end_rank, is_first_rank
from footplate.cli.output import (
    open_streams,
    print_error,
    print_held_warnings,
    print_json,
    reserving_stdout,
    wrap_for_screen,
)
from footplate.extensions import cloned_folders, command_modules
from footplate.interrupts import SIGNALED, raising_stop_signals
from footplate.launchers import is_launched
from footplate.version import __version__

# In the order of the help text. Each module defines add_commands(subparsers). A command sets the default `run` to a
# function that takes the parsed arguments and returns the exit code. Heavy imports are in these functions.
_MODULES = {
    "train and use a model": ("train", "test", "run"),
    "inspect": ("check", "inspect_configs", "inspect_runs"),
    "convert": ("checkpoint",),
}


def build_parser() -> Parser:
    """Builds the parser for all commands."""
    parser = Parser(
        prog="footplate",
        description="Train, test and inspect PyTorch models with config files of both OpenMMLab generations. Run "
        "`footplate COMMAND --help` for the arguments of a command.",
        usage="footplate COMMAND ...",
    )
    parser.add_argument("--version", action="version", version=f"footplate {__version__}")
    # Commands replace these values while they run, or have options for them.
    parser.set_defaults(
        json=False, debug=False, debug_option="--debug", cpu=False, cfg=None, progress="", held_warnings=()
    )
    subparsers = parser.add_subparsers(prog="footplate", metavar="COMMAND", help=SUPPRESS, required=True)
    groups = {title: [import_module(f"footplate.cli.{name}") for name in names] for title, names in _MODULES.items()}
    for module in command_modules():  # of other packages
        groups.setdefault(module.GROUP, []).append(module)
    for title, modules in groups.items():
        for module in modules:
            try:
                module.add_commands(subparsers)
            except Exception as error:  # all commands would fail, so the message must name the plug-in
                raise ImportError(f"the commands of '{module.__name__}' cannot be added: {error}") from error
        # The help lists commands in groups, which argparse has only for arguments.
        parser.add_argument_group(title)._group_actions += subparsers._choices_actions
        subparsers._choices_actions = []
    parser._action_groups.append(parser._action_groups.pop(1))  # options
    parser.add_argument_group("example", "footplate train fashion-seg --work-dir work_dirs/first")
    for name, command in subparsers.choices.items():
        _add_common(command, prints_result=name != "run")  # `run` prints only the output of the script
    return parser


def _add_common(command: Parser, *, prints_result: bool) -> None:
    """Adds the common options to a command and its subcommands.

    The options have no defaults, so that a subcommand's parser does not overwrite the values from its parent.
    """
    for action in command._actions:
        if isinstance(action, _SubParsersAction):
            for inner in action.choices.values():
                _add_common(inner, prints_result=prints_result)
    if prints_result:
        command.add_argument(
            "--json",
            action="store_true",
            default=SUPPRESS,
            help="print the result or the error as JSON; logs and messages go to standard error",
        )
    command.add_argument("--debug", action="store_true", default=SUPPRESS, help="show the traceback of an error")
    command.set_defaults(command=command)
    command.shorten_usage()


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the `footplate` command with the given arguments.

    Args:
        argv: The arguments. By default, `sys.argv[1:]`.

    Returns:
        The exit code: 0 for success; 1 for a negative result, such as different configs, or an error in user code; 2
        for invalid input; 3 for a non-finite loss, gradient or weight; 4 for a run that finished but could not be
        saved; 129, 130 or 143 if a signal ended the command.
    """
    if argv is None and "JPY_PARENT_PID" in os.environ:
        os.environ["TERM"] = "dumb"  # a command in a notebook cell: the cell shows a terminal, but cannot be redrawn
    open_streams()
    arguments, unknown = build_parser().parse_known_args(argv)
    if unknown:
        refuse_unknown(arguments.command, arguments, unknown)
    arguments.argv = list(sys.argv[1:] if argv is None else argv)
    # Modules in custom_imports are found in the current folder, as with `python -m`. A clone of a code base in it, such
    # as `mmdetection3d`, comes before an installed one.
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    place = sys.path.index(os.getcwd()) + 1
    sys.path[place:place] = [folder for folder in cloned_folders() if folder not in sys.path]
    with reserving_stdout(arguments), raising_stop_signals(arguments.json):
        return _run(arguments)


def _run(arguments: Namespace) -> int:
    """Runs a command, with GPU code on the CPU if `--cpu` is given. Prints its error if it fails.

    Returns the exit code.
    """
    try:
        if arguments.cpu:
            from footplate.tools.cuda_on_cpu import cuda_on_cpu

            with cuda_on_cpu():
                return arguments.run(arguments) or 0
        return arguments.run(arguments) or 0
    except KeyboardInterrupt as error:
        code = int(getattr(error, "exit_code", SIGNALED + signal.SIGINT))
        _print_document(arguments, error, code)
        # If a rank fails, the launcher sends SIGTERM to the others. Only the failed rank reports an error.
        if is_first_rank() and not (is_launched() and code == SIGNALED + signal.SIGTERM):
            sys.stderr.write("interrupted\n")
        if arguments.debug and not arguments.json:
            raise
        if arguments.debug:
            print_error(traceback.format_exc())
        return code
    except SystemExit as error:
        _print_document(arguments, error, error.code if isinstance(error.code, int) else int(error.code is not None))
        raise
    except Exception as error:
        print_held_warnings(arguments, error)
        return end_rank(arguments, error) if is_launched() else _report(arguments, error)
    finally:
        print_held_warnings(arguments)


def _report(arguments: Namespace, error: Exception) -> int:
    """Prints an error and returns the exit code. Re-raises the error if its traceback should be shown."""
    from footplate.cli.error_messages import describe_error
    from footplate.tools.key_equivalents import restore_key

    restore_key(error, arguments.cfg)
    described = describe_error(error, arguments.progress, option=arguments.debug_option)
    message, code = described or ("", 1)
    _print_document(arguments, error, code, message)
    if described is None or (arguments.debug and not arguments.json):
        raise error
    if arguments.debug:
        print_error(traceback.format_exc())
    print_error(wrap_for_screen(message, sys.stderr))
    return code


def _print_document(arguments: Namespace, error: BaseException, code: int, message: str = "") -> None:
    """Prints an error as a JSON document if `--json` is given; see `error_as_data`. Only the first rank prints it."""
    if arguments.json and is_first_rank():
        from footplate.cli.error_messages import error_as_data

        print_json(arguments, {"error": error_as_data(error, message, code)})
