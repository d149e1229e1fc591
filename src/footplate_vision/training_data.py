"""Counts the labels and the image sizes of the samples that a run trains on, for the report."""

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from footplate.storage import commit_bytes
from footplate.visualization import as_array

_MAX_SAMPLES = 1000
_UNITS = {"gt_sem_seg": "pixels", "gt_instances": "boxes", "gt_label": "images"}
FILE = "training_data.json"


class TrainingData:
    """Counts the labels of a run's first 1,000 training samples after augmentation, and their image sizes before it.

    The counts are saved in checkpoints, so that a resumed run counts the same samples.

    Args:
        field: The field of a sample with its true labels: `gt_sem_seg`, `gt_instances` or `gt_label`.

    Example:
        >>> import torch
        >>> from footplate_vision.classification import ClsDataSample
        >>> counts = TrainingData("gt_label")
        >>> counts.add([ClsDataSample(metainfo={"img_shape": (28, 20)}).set_gt_label(1)])
        >>> counts.samples, counts.state_dict()
        (1, {'samples': 1, 'labels': {1: 1}, 'sizes': {(20, 28): 1}})
    """

    def __init__(self, field: str) -> None:
        self._field = field
        self.samples = 0
        self._labels = Counter[int]()
        self._sizes = Counter[tuple[int, int]]()  # width and height

    @property
    def is_complete(self) -> bool:
        """Whether enough samples are counted."""
        return self.samples >= _MAX_SAMPLES

    def add(self, samples: Sequence[Any]) -> None:
        """Counts samples that have the field, up to 1,000 in all."""
        for sample in samples:
            if self.is_complete or self._field not in sample:
                continue
            truth = sample.get(self._field)
            labels = as_array(truth.labels if self._field == "gt_instances" else truth.data).ravel()
            numbers = np.bincount(labels[labels >= 0].astype(np.int64))
            for label in np.flatnonzero(numbers).tolist():
                self._labels[label] += int(numbers[label])
            if shape := sample.get("ori_shape", sample.get("img_shape")):
                self._sizes[int(shape[1]), int(shape[0])] += 1
            self.samples += 1

    def write(self, folder: str, classes: Sequence[str]) -> None:
        """Writes the counts to `vis_data/training_data.json` in a run's log folder."""
        labels = sorted({*range(len(classes)), *self._labels})
        names = dict(enumerate(classes))
        content = {
            "samples": self.samples,
            "unit": _UNITS[self._field],
            "labels": [[names.get(label, f"label {label}"), self._labels[label]] for label in labels],
            "sizes": [[*size, number] for size, number in sorted(self._sizes.items())],
        }
        commit_bytes(os.path.join(folder, "vis_data", FILE), json.dumps(content).encode())

    def state_dict(self) -> dict[str, Any]:
        """Returns the counts."""
        return {"samples": self.samples, "labels": dict(self._labels), "sizes": dict(self._sizes)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores counts that `state_dict` returned."""
        self.samples = state["samples"]
        self._labels, self._sizes = Counter(state["labels"]), Counter(state["sizes"])
