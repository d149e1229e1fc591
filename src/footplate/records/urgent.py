"""Words that cannot wait: said by handlers of signals, past the buffers that the process may just be using."""

import os
import sys
from collections.abc import Callable
from contextlib import suppress

from footplate.messages import printable

# What live displays make of such words, given them and whether the process leaves with them.
SCREENS: list[Callable[[str, bool], str]] = []


def say_at_once(line: str, *, leaving: bool = False) -> None:
    """Writes a line to standard error; a stream that is closed loses it.

    Args:
        line: The line, without its end.
        leaving: Whether the process ends behind it, with nothing tidied up.
    """
    if sys.__stderr__ is None:
        return  # what has its number is another file, a checkpoint perhaps
    text = f"{printable(line)}\n"
    for around in SCREENS:
        text = around(text, leaving)
    with suppress(OSError):
        os.write(2, text.encode())
