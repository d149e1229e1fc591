"""Keeps track of a run's best checkpoints for each metric."""

import copy
import logging
from itertools import chain
from typing import Any

from footplate import storage
from footplate.checkpoint import relocate
from footplate.hooks.monitored_metrics import MonitoredMetric

_logger = logging.getLogger("footplate.hooks")
Ranking = dict[str, list[dict[str, Any]]]
"""The `score` and `path` of the best checkpoints for each metric, best first."""


class BestCheckpoints:
    """The ranking of a run's best checkpoints, and those whose save has been requested.

    Args:
        maximum: The number of checkpoints to keep for each metric.

    Attributes:
        saved: The ranking of the checkpoints that have been saved.
    """

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self.saved: Ranking = {}
        self._requested: dict[str, tuple[MonitoredMetric, float]] = {}  # by path

    @property
    def ranking(self) -> Ranking:
        """The ranking that holds if the requested saves succeed. Checkpoints contain it."""
        ranking = copy.deepcopy(self.saved)
        for path, (metric, score) in self._requested.items():
            self._insert(ranking, metric, score, path)
        return ranking

    def _insert(self, ranking: Ranking, metric: MonitoredMetric, score: float, path: str) -> int:
        ranked = [entry for entry in ranking.get(metric.name, []) if entry["path"] != path]
        place = sum(not metric.is_better(score, entry["score"]) for entry in ranked)
        ranked.insert(place, {"score": score, "path": path})
        ranking[metric.name] = ranked[: self._maximum]
        return place

    def admits(self, metric: MonitoredMetric, score: float, path: str) -> bool:
        """Checks whether a checkpoint with this score would rank among the best.

        Returns False if the checkpoint at `path` is already ranked and its score is at least as good.
        """
        ranked = self.ranking.get(metric.name, [])
        if any(entry["path"] == path and not metric.is_better(score, entry["score"]) for entry in ranked):
            return False
        return len(ranked) < self._maximum or metric.is_better(score, ranked[-1]["score"])

    def request(self, metric: MonitoredMetric, score: float, path: str) -> int:
        """Adds a checkpoint that is about to be saved, and returns its rank (0 is best)."""
        place = self._insert(self.ranking, metric, score, path)
        self._requested[path] = metric, score
        return place

    def complete(self, path: str, *, is_saved: bool = True) -> None:
        """Takes the checkpoint at `path` over into `saved`, or forgets it if its save has failed."""
        metric, score = self._requested.pop(path)
        if is_saved:
            self._insert(self.saved, metric, score, path)

    def forget_requests(self) -> None:
        """Forgets the requests for saves that will not start, because an error has ended training."""
        self._requested = {}

    def relocate(self, folder: str) -> None:
        """Updates the paths of checkpoints that are now in `folder`; see `footplate.checkpoint.relocate`.

        Drops checkpoints that no longer exist, which better ones may have replaced before the run went back.
        """
        for ranked in self.saved.values():
            for entry in tuple(ranked):
                entry["path"] = relocate(entry["path"], folder)
                if not storage.exists(entry["path"]):
                    ranked.remove(entry)
                    _logger.info(
                        "The best checkpoint '%s' no longer exists. The ranking continues without it.", entry["path"]
                    )

    def paths(self) -> list[str]:
        """Returns the path of the best checkpoint for each metric."""
        return [ranked[0]["path"] for ranked in self.ranking.values() if ranked]

    def keeps(self, name: str) -> bool:
        """Checks whether a checkpoint with this file name is one of the best for any metric, or may become one."""
        kept = chain.from_iterable([*self.saved.values(), *self.ranking.values()])
        return any(storage.base_name(entry["path"]) == name for entry in kept)
