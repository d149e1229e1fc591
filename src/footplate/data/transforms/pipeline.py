"""Argument checks, pipelines of transforms, and the base class for transforms."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

from numpy.typing import NDArray

from footplate.checks import check_count, check_number
from footplate.error_context import at_key
from footplate.errors import ArgumentError, DataError
from footplate.registry import TRANSFORMS

Sample = dict[str, Any]
Transform = Callable[[Any], Any]


class BaseTransform(ABC):
    """Base class for transforms. A transform receives and returns a sample (a dict), or returns None to drop it.

    Random transforms use the global generators of Python, numpy or torch, which the loader seeds for each sample.
    """

    @abstractmethod
    def transform(self, results: Sample) -> Any:
        """Returns the transformed sample, or None to drop it."""

    def __call__(self, results: Sample) -> Any:
        """Calls `transform`."""
        return self.transform(results)

    def __repr__(self) -> str:
        settings = (f"{name}={value!r}" for name, value in vars(self).items() if not name.startswith("_"))
        return f"{type(self).__name__}({', '.join(settings)})"


@TRANSFORMS.register_module()
class Compose:
    """Applies transforms in order, and stops if one of them returns None.

    Args:
        transforms: A callable, a config for TRANSFORMS, or a list of these.

    Raises:
        ArgumentError: A transform is neither a callable nor a config.

    Attributes:
        dropped_at: The index of the transform that dropped the latest sample, or None.

    Example:
        >>> Compose([lambda data: data + 1, lambda data: data * 2])(3)
        8
    """

    dropped_at: int | None = None

    def __init__(self, transforms: Sequence[Transform | Mapping[str, Any]] | Transform | None) -> None:
        if not isinstance(transforms, Sequence):
            transforms = [transforms] if transforms else []
        self.transforms: list[Transform] = []
        for index, transform in enumerate(transforms):
            built = TRANSFORMS.build_nested(transform, f"[{index}]")
            if not callable(built):
                message = "a transform must be a function or a dict with a 'type' key"
                raise ArgumentError(message, key=f"[{index}]", found=built)
            self.transforms.append(built)

    def __call__(self, data: Any) -> Any:
        """Returns the transformed sample, or None if a transform dropped it."""
        self.dropped_at = None
        for index, transform in enumerate(self.transforms):
            data = transform(data)
            if data is None:
                self.dropped_at = index
                return None
        return data

    def __repr__(self) -> str:
        lines = "".join(f"    {transform!r}\n" for transform in self.transforms)
        return f"{type(self).__name__}(\n{lines})"


@TRANSFORMS.register_module()
class TestTimeAug(BaseTransform):
    """Creates one view of a sample for every combination of alternative transforms.

    Args:
        transforms: A list of lists of alternatives. Each view applies one transform from each list, in order.
            `[[Resize(a), Resize(b)], [RandomFlip(0.0), RandomFlip(1.0)], [PackSegInputs()]]` creates four views.

    Raises:
        ArgumentError: `transforms` is not a list of lists, or a list is empty.

    Example:
        >>> views = TestTimeAug([[lambda sample: sample, lambda sample: {"x": -sample["x"]}]])
        >>> views({"x": 1})
        {'x': [1, -1]}
    """

    __test__ = False  # keeps pytest from collecting a class named Test...

    def __init__(self, transforms: Sequence[Sequence[Any]]) -> None:
        if not transforms or not all(
            isinstance(alternatives, Sequence) and alternatives for alternatives in transforms
        ):
            raise ArgumentError(
                "transforms must be a non-empty list of non-empty lists of transforms",
                key="transforms",
                found=transforms,
            )
        built = []
        for index, alternatives in enumerate(transforms):
            with at_key(f"transforms[{index}]"):
                built.append(Compose(list(alternatives)).transforms)
        self.subroutines = [Compose(list(steps)) for steps in product(*built)]

    def transform(self, results: Sample) -> dict[str, list[Any]]:
        """Returns a dict that maps each key to a list of its values in all views.

        Raises:
            DataError: A transform dropped a view, or a view is not a dict.
        """
        views = [subroutine(copy.deepcopy(results)) for subroutine in self.subroutines]
        if not all(isinstance(view, Mapping) for view in views):
            raise DataError("every view of a sample must be a dict", found=[type(view).__name__ for view in views])
        return {key: [view[key] for view in views] for key in views[0]}


def check_range(name: str, value: Sequence[float]) -> tuple[float, float]:
    """Checks that `value` is a pair of non-negative numbers in ascending order, and returns it.

    Raises:
        ArgumentError: `value` is not such a pair.
    """
    if len(value) != 2 or not 0 <= value[0] <= value[1]:
        raise ArgumentError(f"{name} must be a range (low, high) with 0 <= low <= high", key=name, found=value)
    return value[0], value[1]


def check_pair(name: str, value: Any) -> tuple[Any, Any]:
    """Converts `value` to a pair of positive numbers. A single number is used for both.

    Raises:
        ArgumentError: `value` is not a positive number or a pair of positive numbers.
    """
    pair = tuple(value) if isinstance(value, Sequence) else (value, value)
    if len(pair) != 2:
        raise ArgumentError(f"{name} must be one or two numbers", key=name, found=value)
    for number in pair:
        check_number(name, number, above=0)
    return pair


def check_size(name: str, size: int | Sequence[int]) -> tuple[int, int]:
    """Converts a size to a pair of positive integers. A single number is used for both.

    Raises:
        ArgumentError: `size` is not a positive integer or a pair of positive integers.
    """
    first, second = check_pair(name, size)
    return check_count(name, first), check_count(name, second)


def set_image(results: Sample, image: NDArray[Any]) -> Sample:
    """Sets `img` and `img_shape` of a sample, and returns the sample."""
    results["img"] = image
    results["img_shape"] = image.shape[:2]
    return results
