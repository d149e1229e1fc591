"""Exchanges requests to stop, save or validate between ranks."""

import time
from typing import Any

from footplate.engine import Hook, Runner
from footplate.engine.stopping.requests import SECONDS_BETWEEN_EXCHANGES
from footplate.registry import HOOKS


@HOOKS.register_module()
class RequestExchangeHook(Hook):
    """Makes all ranks handle a request in the same iteration, no matter which rank received it.

    Ranks exchange requests about once per second: after at most 10 iterations, or after each iteration if one takes
    longer than a second. This hook is added automatically to runs with several processes.
    """

    priority = "LOWEST"

    def __init__(self) -> None:
        self._pause = 1  # the number of iterations between the latest exchange and the next one
        self._left = 1  # the number of iterations until the next exchange
        self._since = time.monotonic()

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Exchanges requests with the other ranks when due."""
        self._left -= 1
        if self._left == 0:
            now = time.monotonic()
            iterations_per_second = self._pause / max(now - self._since, 1e-3)
            pause = int(iterations_per_second * SECONDS_BETWEEN_EXCHANGES)
            self._pause = runner.requests.exchange(min(max(pause, 1), 10))
            self._left = self._pause
            self._since = now
