"""The base class of writers."""

import numbers
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt


class BaseVisBackend:
    """The base class of writers for scalars, images and the config.

    All methods do nothing by default. A subclass overrides the methods for the data that it can store.

    Args:
        save_dir: The output folder; set by a Visualizer.
    """

    def __init__(self, save_dir: str | None = None) -> None:
        self._save_dir = save_dir

    def move(self, before: str, now: str) -> None:
        """Replaces the folder `before` by `now` in `save_dir`; called before anything is written."""
        self._save_dir = moved(self._save_dir, before, now)

    @property
    def experiment(self) -> Any:
        """The underlying object of the writer, such as a TensorBoard SummaryWriter."""
        return self

    def add_config(self, config: Any, **kwargs: Any) -> None:
        """Stores the config of the run."""

    def add_graph(self, model: Any, data_batch: Any, **kwargs: Any) -> None:
        """Stores the graph of the model."""

    def add_image(self, name: str, image: npt.NDArray[np.uint8], step: int = 0, **kwargs: Any) -> None:
        """Stores an image: `(H, W, 3)`, uint8, RGB."""

    def add_scalar(self, name: str, value: Any, step: int = 0, **kwargs: Any) -> None:
        """Stores a scalar: a number, or a tensor with one element."""

    def add_scalars(
        self, scalar_dict: Mapping[str, Any], step: int = 0, file_path: str | None = None, **kwargs: Any
    ) -> None:
        """Stores several scalars of the same step.

        Args:
            scalar_dict: Numbers by name; an entry "step" replaces the argument `step`.
            step: The iteration or epoch.
            file_path: A separate file for these scalars, if the writer stores files.
        """

    def close(self) -> None:
        """Finishes writing."""

    def state_dict(self) -> dict[str, Any]:
        """Returns the state that a resumed run needs to continue the output of this run, as plain values by name."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the result of `state_dict`; called before anything is written."""


def moved(path: Any, before: str, now: str) -> Any:
    """Moves a path below the folder `before` to the folder `now`; returns any other value unchanged.

    >>> moved("work/a/vis_data", "work/a", "work/b"), moved("work/ab", "work/a", "work/b"), moved(None, "a", "b")
    ('work/b/vis_data', 'work/ab', None)
    """
    is_below = isinstance(path, str) and path.startswith(os.path.join(before, ""))
    return now + path[len(before) :] if is_below else path


def numbers_in(values: Mapping[str, Any]) -> dict[str, float]:
    """Returns the values that are numbers, or tensors and arrays with one element, as floats by name."""
    found = {}
    for name, value in values.items():
        try:
            number = value.item() if hasattr(value, "item") else value
        except (RuntimeError, ValueError):  # more than one element
            continue
        if isinstance(number, numbers.Real):
            found[name] = float(number)
    return found
