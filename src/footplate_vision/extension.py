"""Checks that depend on the task and that the core calls for every run."""

from typing import Any

from footplate.extensions import Extension


class Tasks(Extension):
    """Checks that the parts of a run agree on the number of classes and on the ignored label."""

    def explain_unknown(self, noun: str, name: str) -> list[str]:
        """Suggests LabelSmoothLoss instead of CrossEntropyLoss, which only code bases register."""
        if (noun, name) != ("model", "CrossEntropyLoss"):
            return []
        return ["For classification, use dict(type='LabelSmoothLoss', label_smooth_val=0), which takes class_weight."]

    def check_training(self, runner: Any) -> None:
        """Warns about parts of the run with different classes or ignored labels."""
        from footplate_vision.label_checks import warn_about_ignored_labels, warn_about_num_classes

        warn_about_num_classes(runner)
        warn_about_ignored_labels(runner)
