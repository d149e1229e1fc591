"""Keeps track of a run's best checkpoints for each metric."""

import logging
from itertools import chain
from typing import Any

from footplate import storage
from footplate.checkpoint import relocate
from footplate.hooks.monitored_metrics import MonitoredMetric

_logger = logging.getLogger("footplate.hooks")


class BestCheckpoints:
    """The paths and scores of the best checkpoints for each metric, best first.

    Args:
        maximum: The number of checkpoints to keep for each metric.

    Attributes:
        ranked: The `score` and `path` of the best checkpoints, keyed by metric.
    """

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self.ranked: dict[str, list[dict[str, Any]]] = {}

    def admits(self, metric: MonitoredMetric, score: float, path: str) -> bool:
        """Checks whether a checkpoint with this score would rank among the best.

        Returns False if the checkpoint at `path` is already ranked and its score is at least as good.
        """
        ranked = self.ranked.get(metric.name, [])
        if any(entry["path"] == path and not metric.is_better(score, entry["score"]) for entry in ranked):
            return False
        return len(ranked) < self._maximum or metric.is_better(score, ranked[-1]["score"])

    def insert(self, metric: MonitoredMetric, score: float, path: str) -> int:
        """Adds a checkpoint, and returns its rank (0 is best)."""
        ranked = [entry for entry in self.ranked.get(metric.name, []) if entry["path"] != path]
        place = sum(not metric.is_better(score, entry["score"]) for entry in ranked)
        ranked.insert(place, {"score": score, "path": path})
        self.ranked[metric.name] = ranked[: self._maximum]
        return place

    def relocate(self, folder: str) -> None:
        """Updates the paths of checkpoints that are now in `folder`; see `footplate.checkpoint.relocate`.

        Drops checkpoints that no longer exist, which better ones may have replaced before the run went back.
        """
        for ranked in self.ranked.values():
            for entry in tuple(ranked):
                entry["path"] = relocate(entry["path"], folder)
                if not storage.exists(entry["path"]):
                    ranked.remove(entry)
                    _logger.info(
                        "The best checkpoint '%s' no longer exists. The ranking continues without it.", entry["path"]
                    )

    def paths(self) -> list[str]:
        """Returns the path of the best checkpoint for each metric."""
        return [ranked[0]["path"] for ranked in self.ranked.values() if ranked]

    def keeps(self, name: str) -> bool:
        """Checks whether a checkpoint with this file name is one of the best for any metric."""
        return any(storage.base_name(entry["path"]) == name for entry in chain.from_iterable(self.ranked.values()))
