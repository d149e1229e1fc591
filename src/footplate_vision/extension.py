"""Plugs the tasks and recipes into the engine."""

from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from footplate.extensions import Extension

_FOLDER = Path(__file__).parent
_NOT_TASKS = ("inference", "recipes")
# Each other package in this folder is a task, so new tasks need no changes here.
_TASKS = tuple(
    f"footplate_vision.{module.name}"
    for module in iter_modules([str(_FOLDER)])
    if module.ispkg and module.name not in _NOT_TASKS
)
_DATASETS = ("footplate_vision.recipes.fashion_items", "footplate_vision.recipes.fashion_scenes")


class Vision(Extension):
    """Adds the tasks and recipes, and checks that the parts of a run agree on classes and ignored labels."""

    locations = {
        **dict.fromkeys(("transform", "model", "task util", "metric", "visualizer"), _TASKS),
        "hook": ("footplate_vision.label_checks", "footplate_vision.visualization", *_TASKS),
        "dataset": (*_DATASETS, *_TASKS),
        "optimizer wrapper constructor": ("footplate_vision.layer_decay",),
    }
    recipes = str(_FOLDER / "recipes" / "configs")

    def explain_unknown(self, noun: str, name: str) -> list[str]:
        """Suggests LabelSmoothLoss instead of CrossEntropyLoss, which only code bases register."""
        if (noun, name) != ("model", "CrossEntropyLoss"):
            return []
        return ["For classification, use dict(type='LabelSmoothLoss', label_smooth_val=0), which takes class_weight."]

    def draw_batch(self, runner: Any, data_batch: Any) -> Any:
        """Draws the images of a training batch with their labels."""
        from footplate_vision.training_batch import draw_training_batch

        return draw_training_batch(runner, data_batch)

    def prepare_training(self, runner: Any) -> None:
        """Compares the numbers of classes and the ignored labels of the parts of the run."""
        from footplate_vision.label_checks import check_num_classes, warn_about_ignored_labels

        check_num_classes(runner)
        warn_about_ignored_labels(runner)
