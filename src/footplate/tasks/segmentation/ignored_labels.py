"""Checks that all parts of a run ignore the same label."""

import logging
from typing import Any

from footplate.data.dataset_wrappers import innermost_datasets
from footplate.evaluation.evaluation_sets import sets_of
from footplate.messages import list_names

_logger = logging.getLogger("footplate.tasks")
_MAX_NAMES = 12


def warn_about_ignored_labels(runner: Any) -> None:
    """Warns if the model, its padding, the datasets and the metrics do not all use the same label for ignored pixels.

    Only compares models in which a module has both `num_classes` and `ignore_index`, as segmentation models have.
    """
    model = runner.unwrapped_model
    parts = [
        (".".join(filter(None, ("model", name, "ignore_index"))), module.ignore_index)
        for name, module in model.named_modules()
        if hasattr(module, "num_classes") and hasattr(module, "ignore_index")
    ]
    if not parts:
        return
    padding = getattr(getattr(model, "data_preprocessor", None), "seg_pad_val", None)
    parts.append(("model.data_preprocessor.seg_pad_val", padding))
    for section in ("train", "val"):
        for chosen in sets_of(getattr(runner, f"{section}_loop")):
            key = ".".join(filter(None, (f"{section}_dataloader", chosen.name, "dataset.ignore_index")))
            parts += [(key, getattr(leaf, "ignore_index", None)) for leaf in innermost_datasets(chosen.dataset)]
            for index, metric in enumerate(chosen.evaluator.metrics):
                key = f"{chosen.evaluator.metric_key(index)}.ignore_index"
                parts.append((key, getattr(metric, "ignore_index", None)))
    labels = dict.fromkeys((key, label) for key, label in parts if isinstance(label, int))
    if len({label for _, label in labels}) > 1:
        _logger.warning(
            "The parts of the run ignore different labels: %s. The model's ignore_index affects the loss, and the "
            "metric's affects the scores. Use the same label everywhere.",
            list_names([f"{key}={label}" for key, label in labels], _MAX_NAMES),
        )
