"""Hooks and functions for runs that receive signals."""

import multiprocessing
import os
import time
from collections.abc import Callable
from typing import Any

import torch

from footplate import Hook
from footplate.engine.control.requests import Requests
from footplate.engine.values.activity import Activity


class Send(Hook):
    """Sends signals to its own process at an event of an iteration, with pauses between them."""

    def __init__(self, number: int, event: str, at: int, *more: int, pause: float = 0.0) -> None:
        self.numbers, self.at, self.pause = (number, *more), at, pause
        setattr(self, event, self._send)

    def _send(self, runner: Any, **arguments: Any) -> None:
        if runner.iter == self.at:
            for place, number in enumerate(self.numbers):
                time.sleep(self.pause if place else 0.0)
                os.kill(os.getpid(), number)


class Draw(Hook):
    """Draws random numbers in each validation, before training and at the start of each epoch."""

    def before_train_epoch(self, runner: Any) -> None:
        torch.rand(1)

    before_train = before_train_epoch

    def before_val_iter(self, runner: Any) -> None:  # type: ignore[override]
        torch.rand(1)


IDLE = Requests(torch.device("cpu"), Activity())


def in_process(function: Callable[..., Any], *args: Any, **kwargs: Any) -> int | None:
    process = multiprocessing.get_context("fork").Process(target=function, args=args, kwargs=kwargs)
    process.start()
    process.join()
    return process.exitcode
