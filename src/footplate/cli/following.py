"""Prints the command to run after a run has ended."""

import argparse
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from footplate.cli.streams import say

if TYPE_CHECKING:
    from footplate.engine import Runner

COLUMN = 17  # the column of the text


def tell(name: str, what: str) -> None:
    """Prints a labelled line at the end of a command."""
    say(f"{name + ':':<{COLUMN}}{what}\n")


def tell_how_to_look(runner: "Runner") -> None:
    """Prints the command that shows a finished run."""
    tell("look", shlex.join(["footplate", "report", runner.work_dir]))


def tell_how_to_go_on(runner: "Runner", arguments: argparse.Namespace) -> None:
    """Prints the command that resumes a stopped run, unless an external launcher started the run."""
    started_here = runner.world_size == 1 or arguments.nproc is not None
    if not runner.rank and started_here and runner.saver.last is not None:
        tell("go on", resuming(arguments.words))


def resuming(words: Sequence[str]) -> str:
    """Returns the command that resumes a run, given the arguments of the command that started or resumed it.

    >>> resuming(["train", "a.py", "--resume", "x.pth", "--set", "a.b=[1, 2]"])
    "footplate train a.py --set 'a.b=[1, 2]' --resume"
    """
    kept: list[str] = []
    places = iter(range(len(words)))
    for place in places:
        if words[place] == "--resume":
            if place + 1 < len(words) and not words[place + 1].startswith("-"):
                next(places)
        elif not words[place].startswith("--resume="):
            kept.append(words[place])
    return shlex.join(["footplate", *kept, "--resume"])
