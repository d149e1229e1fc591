"""The command that follows one that has ended."""

import argparse
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from footplate.cli.streams import say

if TYPE_CHECKING:
    from footplate.engine import Runner

COLUMN = 17  # where what is told begins


def tell(name: str, what: str) -> None:
    """Prints a line of what a command has to say at its end."""
    say(f"{name + ':':<{COLUMN}}{what}\n")


def tell_how_to_look(runner: "Runner") -> None:
    """Says what shows a run that has ended."""
    tell("look", shlex.join(["footplate", "report", runner.work_dir]))


def tell_how_to_go_on(runner: "Runner", arguments: argparse.Namespace) -> None:
    """Says what goes on with a run that was asked to stop; a launcher of the user's own has a line of its own."""
    started_here = runner.world_size == 1 or arguments.nproc is not None
    if not runner.rank and started_here and runner.saver.last is not None:
        tell("go on", resuming(arguments.words))


def resuming(words: Sequence[str]) -> str:
    """Returns the command that resumes what another began or resumed.

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
