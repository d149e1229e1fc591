"""Defines the entry point of the `footplate` command."""

import importlib
import os
import signal
import sys
import traceback
from argparse import SUPPRESS, ArgumentParser, Namespace, _SubParsersAction
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from footplate import __version__
from footplate.cli.arguments import Parser, refuse_unknown
from footplate.cli.launching import end_rank, is_first_rank
from footplate.cli.output import (
    open_streams,
    print_error,
    print_json,
    reserving_stdout,
    wants_json,
    wrap_text,
)
from footplate.interrupts import SIGNALED, is_launched, raising_stop_signals

# In the order of the help text. Each module defines add_commands(subparsers). A command sets the default `run` to a
# function that takes the parsed arguments and returns the exit code. Heavy imports are in these functions.
_MODULES = (
    "train",
    "trained_models",
    "run",
    "inspect_configs",
    "trial_runs",
    "inspect_runs",
    "doctor",
    "sweep",
    "migrate",
    "checkpoint",
)


def build_parser() -> ArgumentParser:
    """Builds the parser for all commands."""
    parser = Parser(
        prog="footplate",
        description="Train, test and inspect PyTorch models with config files of both OpenMMLab generations.",
        epilog="Run `footplate COMMAND --help` for the arguments of a command.",
    )
    parser.add_argument("--version", action="version", version=f"footplate {__version__}")
    # Commands replace these values while they run, or have options for them.
    parser.set_defaults(debug=False, debug_option="--debug", cpu=False, cfg=None, progress="")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in _MODULES:
        importlib.import_module(f"footplate.cli.{name}").add_commands(subparsers)
    for name, command in subparsers.choices.items():
        _add_common(command, prints_result=name != "run")  # `run` prints only the output of the script
    return parser


def _add_common(command: ArgumentParser, *, prints_result: bool) -> None:
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
    if isinstance(command, Parser):
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
    open_streams()
    arguments, unknown = build_parser().parse_known_args(argv)
    if unknown:
        refuse_unknown(arguments.command, arguments, unknown)
    arguments.argv = list(sys.argv[1:] if argv is None else argv)
    # Modules in custom_imports are found in the current folder, as with `python -m`.
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    with reserving_stdout(arguments), raising_stop_signals(wants_json(arguments)):
        return _run(arguments)


def _run(arguments: Namespace) -> int:
    """Runs a command, prints its error if it fails, and returns the exit code."""
    try:
        with _device_context(arguments):
            return int(arguments.run(arguments))
    except KeyboardInterrupt as error:
        code = _end_interrupted(arguments, error)
        if arguments.debug and not wants_json(arguments):
            raise
        if arguments.debug:
            print_error(traceback.format_exc())
        return code
    except SystemExit as error:
        _print_document(arguments, error, _exit_code_of(error))
        raise
    except Exception as error:
        return end_rank(arguments, error) if is_launched() else _report(arguments, error)


def _device_context(arguments: Namespace) -> AbstractContextManager[None]:
    """Returns a context manager that runs GPU code on the CPU if `--cpu` is given."""
    if not arguments.cpu:
        return nullcontext()
    from footplate.openmmlab.cuda_on_cpu import cuda_on_cpu

    return cuda_on_cpu()


def _report(arguments: Namespace, error: Exception) -> int:
    """Prints an error and returns the exit code. Re-raises the error if its traceback should be shown."""
    from footplate.cli.config_arguments import has_script_as_config
    from footplate.cli.error_messages import describe_error
    from footplate.errors import FootplateError
    from footplate.tools.key_equivalents import restore_key

    restore_key(error, arguments.cfg)
    if isinstance(error, FootplateError) and has_script_as_config(arguments):
        error.notes = (*error.notes, "To run a script that builds a Runner, use `footplate run`.")
    described = describe_error(error, arguments.progress, option=arguments.debug_option)
    message, code = described or ("", 1)
    _print_document(arguments, error, code, message)
    if described is None or (arguments.debug and not wants_json(arguments)):
        raise error
    if arguments.debug:
        print_error(traceback.format_exc())
    print_error(wrap_text(message) if sys.stderr.isatty() else message)
    return code


def _end_interrupted(arguments: Namespace, error: KeyboardInterrupt) -> int:
    """Reports that a signal interrupted the command, and returns the exit code."""
    code = _exit_code_of(error)
    _print_document(arguments, error, code)
    # If a rank fails, the launcher sends SIGTERM to the others. Only the failed rank reports an error.
    if is_first_rank() and not (is_launched() and code == SIGNALED + signal.SIGTERM):
        sys.stderr.write("interrupted\n")
    return code


def _print_document(arguments: Namespace, error: BaseException, code: int, message: str = "") -> None:
    """Prints an error as a JSON document if `--json` is given; see `error_as_data`. Only the first rank prints it."""
    if wants_json(arguments) and is_first_rank():
        from footplate.cli.error_messages import error_as_data

        print_json(arguments, {"error": error_as_data(error, message, code)})


def _exit_code_of(error: KeyboardInterrupt | SystemExit) -> int:
    """Returns the exit code of a command after an interrupt or `sys.exit`."""
    if isinstance(error, KeyboardInterrupt):
        return int(getattr(error, "exit_code", SIGNALED + signal.SIGINT))
    return error.code if isinstance(error.code, int) else int(error.code is not None)
