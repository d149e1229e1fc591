"""Defines the argument parser, the options that several commands share, and suggestions for unknown arguments."""

import json
import math
import re
import shlex
import sys
from argparse import Action, ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from footplate.cli.output import print_error, print_text
from footplate.messages import BOLD, nearest
from footplate.storage.paths import local_path

_PATHS = ("A", "B", "CHECKPOINT", "CONFIG", "DIR", "FILE", "FOLDER", "NEW.py", "OLD.py", "PATH", "SCRIPT", "WORK_DIR")
_INVALID_CHOICE = re.compile(r"invalid choice: '([^']*)' \(choose from (.*)\)")
_DEVICES = "choose devices with CUDA_VISIBLE_DEVICES; to train or test on several devices, use --nproc N"
_IN_SCRIPT = "for this option, run the code base's own script: `footplate run tools/test.py`"
_REPLACED = {  # options of the code bases' train.py and test.py
    "--auto-resume": "use --resume",
    "--resume-from": "use --resume PATH",
    "--no-validate": "use --cfg-options evaluation=None, or for a second-generation config, val_cfg=None "
    "val_dataloader=None val_evaluator=None",
    **dict.fromkeys(("--gpus", "--gpu-id", "--gpu-ids"), _DEVICES),
    **dict.fromkeys(("--eval", "--out", "--show", "--show-dir", "--format-only"), _IN_SCRIPT),
}


class Parser(ArgumentParser):
    """Parses the command line, or the arguments of one command.

    Usage lines show only positional arguments and required options, in an order that the parser accepts. Error messages
    have two lines and suggest the argument that was most likely meant.
    """

    _given: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parses the arguments and stores them for error messages."""
        self._given = sys.argv[1:] if args is None else args
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Prints the error with a reference to `--help`, or the help if a command is missing, and exits with code 2.

        With `--json`, prints JSON as well.
        """
        if not self._given and self._subparsers:
            self.print_help()
            self.exit(2)
        choice = _INVALID_CHOICE.search(message)
        if choice:
            known = re.findall(r"[\w-]+", choice[2])
            near = nearest(choice[1], known)
            hint = f"did you mean '{near}'?" if near else f"choose from {', '.join(known)}"
            message = f"invalid choice '{choice[1]}'; {hint}"
        elif "arguments are required" in message and any(word.startswith("--") for word in self._given):
            message += "; put positional arguments before the options, because some options take all that follow"
        if "--json" in self._given:
            error = {"type": "ArgumentError", "message": message, "notes": [], "exit_code": 2}
            sys.stdout.write(json.dumps({"error": error}, indent=2) + "\n")
        print_error(f"error: {message}\nRun `{self.prog} --help` for usage.\n")
        self.exit(2)

    def print_help(self, file: Any = None) -> None:
        """Prints the help, with bold headings, commands and options on terminals."""
        self.color = False  # since Python 3.14, argparse would add escape codes, which `print_text` escapes
        if file is not None:
            super().print_help(file)
            return
        print_text(self.format_help(), (r"^(?:usage|Example):|^[a-z ]+:$|^ {2,4}(?:-.*?|[\w-]+)(?=  |$)", BOLD))

    def add_argument(self, *names: Any, **settings: Any) -> Action:
        """Adds an argument. Expands `~` in paths, which a shell passes on unchanged in `--out=~/images`."""
        if settings.get("metavar") in _PATHS:
            settings["type"] = local_path
        return super().add_argument(*names, **settings)

    def add_value(self, names: str, metavar: str | tuple[str, ...], text: str, **settings: Any) -> Action:
        """Adds a positional argument or an option with a value, such as "-o --output".

        `settings` are passed to `add_argument`.
        """
        return self.add_argument(*names.split(), metavar=metavar, help=text, **settings)

    def add_flag(self, name: str, text: str) -> None:
        """Adds an option without a value, which is False by default."""
        self.add_argument(name, action="store_true", help=text)

    def shorten_usage(self) -> None:
        """Shortens the usage to positional arguments and required options. The help still lists the other options."""
        needed = [action for action in self._actions if not action.option_strings or action.required]
        needed.sort(key=lambda action: bool(action.option_strings))  # an option may take all that follow
        values = self._get_formatter()._format_args
        words = [" ".join([*action.option_strings[-1:], values(action, "")]) for action in needed]
        self.usage = self.usage or " ".join(["%(prog)s", *words, "[options]"])


def number(convert: Callable[[str], float], least: float, most: float = math.inf) -> Callable[[str], Any]:
    """Returns an argparse `type` that accepts numbers from `least` to `most`."""

    def parse(text: str) -> float:
        value = convert(text)
        if not least <= value <= most:
            limits = f"at least {least}" if most == math.inf else f"a number from {least} to {most}"
            raise ArgumentTypeError(f"must be {limits}, not {text}")
        return value

    parse.__name__ = convert.__name__  # argparse shows it if the text is not a number
    return parse


def add_command(
    subparsers: Any, name: str, run: Callable[[Namespace], int | None], text: str, description: str, example: str = ""
) -> Parser:
    """Adds the parser of a command, and returns it.

    Args:
        subparsers: The parsers of all commands.
        name: The name of the command.
        run: The function that takes the parsed arguments and returns the exit code, or None for success.
        text: A short description for the list of commands.
        description: The description of the command.
        example: An example to show at the end of the help.
    """
    epilog = f"Example: {example}" if example else None
    parser: Parser = subparsers.add_parser(name, help=text, description=description, epilog=epilog)
    parser.set_defaults(run=run)
    return parser


def add_config(parser: Parser) -> None:
    """Adds the arguments for a config and its overrides to the parser."""
    parser.add_value("config", "CONFIG", "a config file or the name of a recipe")
    add_overrides(parser)


def add_overrides(parser: Parser) -> None:
    """Adds the options that override config keys."""
    for flag, text in (
        ("--set", "override config keys; to add a key that does not exist, write +KEY=VALUE"),
        ("--cfg-options", "merge config keys as the OpenMMLab tools do; unknown keys are added"),
    ):
        parser.add_value(flag, "KEY=VALUE", text, nargs="+", action="extend", default=[])


def add_trained(parser: Parser) -> None:
    """Adds the arguments for a trained model: the checkpoint, its config, overrides and `--cpu`."""
    parser.add_value("checkpoint", "CHECKPOINT", "a checkpoint of the model")
    parser.add_value(
        "--config", "CONFIG", "a config file or the name of a recipe (default: the config in the checkpoint)"
    )
    add_overrides(parser)
    add_cpu(parser)


def add_cpu(parser: Parser) -> None:
    """Adds `--cpu`, which runs GPU code on the CPU."""
    parser.add_flag("--cpu", "run on the CPU, even code that calls .cuda() or passes device='cuda'")


def refuse_unknown(command: Parser, arguments: Namespace, unknown: Sequence[str]) -> NoReturn:
    """Exits with an error about unknown arguments. Suggests an option, or `--set`."""
    flag = unknown[0].partition("=")[0]
    options = {option.lstrip("-").replace("-", "_"): option for option in command._option_string_actions}
    near = nearest(flag.lstrip("-").replace("-", "_"), options)
    settings = [word for word in unknown if "=" in word and not word.startswith("-")]
    hint = ""
    if flag in _REPLACED:
        hint = f"; {_REPLACED[flag]}"
    elif near and flag.startswith("-"):
        hint = f"; did you mean {options[near]}?" if options[near] != flag else f"; write it after '{command.prog}'"
    elif hasattr(arguments, "set"):
        hint = f"; to set a config key, write --set {shlex.join(settings) or 'KEY=VALUE'}"
    command.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
