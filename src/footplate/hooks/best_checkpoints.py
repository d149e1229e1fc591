"""Keeps track of a run's best checkpoints for each metric."""

import copy
from collections.abc import Mapping
from itertools import chain
from typing import Any

from footplate.checkpoint import relocate
from footplate.hooks.monitored_metrics import MonitoredMetric

Ranked = list[dict[str, Any]]


class BestCheckpoints:
    """The paths and scores of the best checkpoints for each metric, best first.

    Args:
        maximum: The number of checkpoints to keep for each metric.

    Attributes:
        ranked: The `score` and `path` of the best checkpoints, keyed by metric.
    """

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self.ranked: dict[str, Ranked] = {}

    def admits(self, metric: MonitoredMetric, score: float, path: str) -> bool:
        """Checks whether a checkpoint with this score would rank among the best.

        Returns False if the checkpoint at `path` is already ranked and its score is at least as good.
        """
        ranked = self.ranked.get(metric.name, [])
        if any(entry["path"] == path and not metric.is_better(score, entry["score"]) for entry in ranked):
            return False
        return len(ranked) < self._maximum or metric.is_better(score, ranked[-1]["score"])

    def insert(self, metric: MonitoredMetric, score: float, path: str) -> tuple[int, list[str]]:
        """Adds a checkpoint. Returns its rank (0 is best) and the paths of checkpoints that are no longer ranked."""
        ranked = [entry for entry in self.ranked.get(metric.name, []) if entry["path"] != path]
        place = sum(not metric.is_better(score, entry["score"]) for entry in ranked)
        ranked.insert(place, {"score": score, "path": path})
        self.ranked[metric.name] = ranked[: self._maximum]
        return place, [entry["path"] for entry in ranked[self._maximum :]]

    def relocate(self, folder: str) -> None:
        """Updates the paths of checkpoints that are now in `folder`; see `footplate.checkpoint.relocate`."""
        for entry in chain.from_iterable(self.ranked.values()):
            entry["path"] = relocate(entry["path"], folder)

    def paths(self) -> list[str]:
        """Returns the path of the best checkpoint for each metric."""
        return [ranked[0]["path"] for ranked in self.ranked.values() if ranked]

    def keeps(self, path: str) -> bool:
        """Checks whether a checkpoint is one of the best for any metric."""
        return any(entry["path"] == path for entry in chain.from_iterable(self.ranked.values()))

    def state_dict(self) -> dict[str, Any]:
        """Returns the scores and paths of the best checkpoints."""
        return copy.deepcopy(self.ranked)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the scores and paths that `state_dict` returned."""
        self.ranked = {metric: copy.deepcopy(ranked) for metric, ranked in state.items()}
