"""A process that dies at any system call leaves a complete checkpoint."""

import os
import warnings
from collections.abc import Callable
from typing import Any

import torch

from footplate.checkpoint import (
    find_latest,
    load_checkpoint,
    read_pointer,
    remove_checkpoint,
    save_checkpoint,
    verify,
    write_pointer,
)

_CALLS = ("open", "write", "fsync", "fstat", "replace", "close", "unlink", "makedirs", "scandir")
_DEAD = 9


class _Deadly:
    """Replaces all system calls, and ends the process at the n-th one, in the middle of a write."""

    def __init__(self, last: int) -> None:
        self.left = last

    def wrap(self, original: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.left -= 1
            if not self.left:
                if name == "write":
                    original(args[0], bytes(args[1])[: len(args[1]) // 2])
                os._exit(_DEAD)
            return original(*args, **kwargs)

        return call


def _die_while(act: Callable[[], None], last: int) -> bool:
    """Runs `act` in a child that dies at its call number `last`; returns whether it made so many calls."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads, from Python 3.12 on
        child = os.fork()
    if child:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, _DEAD)
        return code == _DEAD
    deadly = _Deadly(last)
    for name in _CALLS:
        setattr(os, name, deadly.wrap(getattr(os, name), name))
    try:
        act()
    except BaseException:
        os._exit(1)
    os._exit(0)


def _wide(state: dict[str, Any]) -> dict[str, Any]:
    return {**state, "large": torch.full((700_000,), float(state["meta"]["iter"]))}


def test_death_at_any_call_of_a_save_leaves_a_complete_checkpoint(
    saved: str, make_state: Callable[[int], dict[str, Any]], same: Callable[..., bool]
) -> None:
    folder = os.path.dirname(saved)
    newer = os.path.join(folder, "iter_2.pth")
    # Built before forking, since torch's threads do not survive in a child.
    states = {number: _wide(make_state(number)) for number in (1, 2)}

    def act() -> None:
        save_checkpoint(states[2], newer)
        write_pointer(folder, newer)
        remove_checkpoint(saved)

    last, deaths = 1, 0
    write_pointer(folder, saved)
    while True:
        save_checkpoint(states[1], saved)
        write_pointer(folder, saved)
        remove_checkpoint(newer)
        if not _die_while(act, last):
            break
        deaths += 1
        _assert_whole(folder, states, same)
        last += 1
    assert deaths > 20
    # Temporary files are removed ten minutes after their last change.
    names = [name for name in sorted(os.listdir(folder)) if not name.endswith(".partial")]
    assert names == ["iter_2.pth", "last_checkpoint"]


def _assert_whole(folder: str, states: dict[int, dict[str, Any]], same: Callable[..., bool]) -> None:
    latest = find_latest(folder)
    assert latest is not None
    loaded = load_checkpoint(latest)
    assert same(loaded, states[loaded["meta"]["iter"]])
    pointed = read_pointer(folder)
    assert pointed is not None
    assert verify(pointed).sha256 is not None
