"""The data classes of the table's rows."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

Fault: TypeAlias = Callable[[], None]


class Finding(NamedTuple):
    """The result of a trial.

    Attributes:
        wrong: The error, or "".
        figures: Numbers by name. `count` is the number of cases of the trial, 1 by default, and is summed; of other
            figures, the largest is reported.
    """

    wrong: str
    figures: Mapping[str, float] = {}


Trial: TypeAlias = Callable[[int, "Fault | None"], Finding]


class Row(NamedTuple):
    """A row of the table.

    Attributes:
        name: The name on the command line.
        test: The description of the test.
        right: The description of a correct result.
        begin: Prepares the trial in a folder, and returns a function of a seed and a fault to plant.
        long: The seeds of the long form.
        short: The seeds of the short form.
        planted: The planted faults that it must find.
        controls: The seeds with which planted faults must be found.
        lasts: Whether its folder is kept, for a trial that continues where it was interrupted.
    """

    name: str
    test: str
    right: str
    begin: Callable[[Path], Trial]
    long: range
    short: range
    planted: Mapping[str, Fault]
    controls: Sequence[int] = range(25)
    lasts: bool = False
