"""Prints urgent messages from signal handlers, bypassing stream buffers that the process may be using."""

import os
import sys
from collections.abc import Callable
from contextlib import suppress

from footplate.messages import printable

# Functions of live displays that adapt a message; they get the text and whether the process is exiting.
SCREENS: list[Callable[[str, bool], str]] = []


def say_at_once(line: str, *, leaving: bool = False) -> None:
    """Writes a line to standard error; the line is lost if the stream is closed.

    Args:
        line: The line without a line end.
        leaving: Whether the process exits afterwards without any cleanup.
    """
    if sys.__stderr__ is None:
        return  # file descriptor 2 may belong to another file, even a checkpoint
    text = f"{printable(line)}\n"
    for around in SCREENS:
        text = around(text, leaving)
    with suppress(OSError):
        os.write(2, text.encode())
