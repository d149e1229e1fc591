"""An argument parser for beginners: usage lines in an order that works, and one-line errors with suggestions."""

import argparse
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from footplate.messages import nearest

_INVALID_CHOICE = re.compile(r"invalid choice: '([^']*)' \(choose from (.*)\)")
_MISSING = re.compile(r"the following arguments are required: (.+)")
_LONG_WORD = re.compile(r"([^\s']{157})[^\s']{4,}")


class Parser(argparse.ArgumentParser):
    """Parses the command line, or one command's part of it."""

    _given: Sequence[str] = ()
    elsewhere: Mapping[str, str] = {}  # hints for subcommands that do not exist

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parses the arguments, and stores them for error messages."""
        self._given = args or ()
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Exits with a line that states the error and a line that points to `--help`."""
        choice, missing = _INVALID_CHOICE.search(message), _MISSING.search(message)
        if choice:
            known = re.findall(r"[\w-]+", choice[2])
            near = nearest(choice[1], known)
            hint = self.elsewhere.get(choice[1]) or (f"did you mean '{near}'?" if near else ", ".join(known))
            message = f"there is no '{choice[1]}': {hint}"
        elif missing and any(word.startswith("--") for word in self._given):
            message += ", before the options: some of them take all that follows"
        message = _LONG_WORD.sub(r"\1...", message)
        self.exit(2, f"{self.prog}: error: {message}\n{self.prog} --help shows what it takes\n")

    def write_short_usage(self) -> None:
        """Shortens the usage to positional arguments and required options; the others are listed below it."""
        formatter = self._get_formatter()
        placed = [action for action in self._actions if not action.option_strings]
        if any(isinstance(action, argparse._SubParsersAction) for action in placed):
            return
        words = [formatter._format_args(each, formatter._get_default_metavar_for_positional(each)) for each in placed]
        for each in self._actions:
            if each.option_strings and each.required:
                words.append(f"{each.option_strings[-1]} {formatter._format_args(each, each.dest.upper())}")
        self.usage = " ".join(["%(prog)s", *words, "[options]"])

    def _get_formatter(self) -> argparse.HelpFormatter:
        return _Formatter(prog=self.prog)


class _Formatter(argparse.HelpFormatter):
    """Widens the first column of the help to fit the names of commands."""

    def add_argument(self, action: argparse.Action) -> None:
        super().add_argument(action)
        inner = [self._format_action_invocation(each) for each in self._iter_indented_subactions(action)]
        longest = max(map(len, inner), default=0) + self._current_indent + self._indent_increment
        self._action_max_length = max(self._action_max_length, longest if inner else 0)
