"""What every row of the table has in common."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, TypeAlias

Fault: TypeAlias = Callable[[], None]


class Finding(NamedTuple):
    """What a trial found.

    Attributes:
        wrong: What is wrong, or "".
        figures: Numbers by name. `count` says for how many cases the trial stands, one where it is not there, and is
            summed; of the others the largest is told.
    """

    wrong: str
    figures: Mapping[str, float] = {}


Trial: TypeAlias = Callable[[int, "Fault | None"], Finding]


class Row(NamedTuple):
    """One row of the table.

    Attributes:
        name: Its name on the command line.
        test: What is done.
        right: What a good end is called.
        begin: Makes the trial, a function of a seed and of a fault to plant, that works in a folder.
        long: The seeds of the long form.
        short: The seeds of the short form.
        planted: Faults that it must find.
        controls: The seeds among which a planted fault must be found.
        lasts: Whether its folder is kept, for a trial that goes on where it was ended.
    """

    name: str
    test: str
    right: str
    begin: Callable[[Path], Trial]
    long: range
    short: range
    planted: Mapping[str, Fault]
    controls: range = range(25)
    lasts: bool = False
