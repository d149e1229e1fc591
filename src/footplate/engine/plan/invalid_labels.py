"""Finds the invalid label that caused an error of a loss function."""

import re
from collections.abc import Mapping
from traceback import walk_tb
from typing import Any

from torch import Tensor, nn

from footplate.data.data_element import BaseDataElement

MODULE_CALL = nn.Module.__call__.__code__
"""The code that identifies the stack frames of module calls."""
_INVALID_LABEL = re.compile(r"Target (-?\d+) is out of bounds|Class values must be")


def label_advice(error: BaseException) -> list[str]:
    """Returns a note on the invalid label that caused an error, with its file if possible, or an empty list."""
    message = _INVALID_LABEL.search(str(error))
    if message is None:
        return []
    label = None if message[1] is None else int(message[1])
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    counts = [getattr(frame.f_locals.get("self"), "num_classes", None) for frame in frames]
    classes = next((count for count in reversed(counts) if isinstance(count, int)), None)
    inputs = [value for frame in frames if frame.f_code is MODULE_CALL for value in inputs_of(frame.f_locals)]
    file = "The data"
    for sample in (sample for value in inputs if isinstance(value, list) for sample in value):
        truth = sample.get("gt_sem_seg", sample.get("gt_label")) if isinstance(sample, BaseDataElement) else None
        labels = getattr(truth, "data", None)
        if not isinstance(labels, Tensor):
            continue
        if label is None and classes is not None:  # 255 usually marks pixels to ignore
            invalid = labels[(labels < 0) | (labels >= classes) & (labels != 255)]
            label = int(invalid[0]) if len(invalid) else None
        if label is not None and bool((labels == label).any()):
            path = sample.get("seg_map_path", sample.get("img_path"))
            file = f"'{path}'" if path else file
            break
    value = "a label that is not a class" if label is None else f"the label {label}"
    largest = "the number of classes - 1" if classes is None else classes - 1
    return [f"{file} contains {value}. Labels must be between 0 and {largest}. Check the labels and num_classes."]


def inputs_of(call: Mapping[str, Any]) -> list[Any]:
    """Returns the inputs of a module call from the variables of its stack frame."""
    return [*call["args"], *call["kwargs"].values()]
