"""Test-time augmentation: several views of one sample."""

import copy
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from footplate.data.compose import Compose
from footplate.data.transforms.base import BaseTransform
from footplate.error_context import at_key
from footplate.errors import ArgumentError, DataError
from footplate.registry import TRANSFORMS


@TRANSFORMS.register_module()
class TestTimeAug(BaseTransform):
    """Makes one view of a sample for every combination of alternative transforms.

    Args:
        transforms: A list of lists of alternatives. Each view applies one transform from each list, in order.
            `[[Resize(a), Resize(b)], [RandomFlip(0.0), RandomFlip(1.0)], [PackSegInputs()]]` makes four views.

    Raises:
        ArgumentError: It is no list of lists, or one is empty.

    Example:
        >>> views = TestTimeAug([[lambda sample: sample, lambda sample: {"x": -sample["x"]}]])
        >>> views({"x": 1})
        {'x': [1, -1]}
    """

    __test__ = False  # otherwise pytest collects it, because of its name

    def __init__(self, transforms: Sequence[Sequence[Any]]) -> None:
        if not transforms or not all(isinstance(each, Sequence) and each for each in transforms):
            raise ArgumentError(
                "the alternatives are a list of lists of transforms", key="transforms", found=transforms
            )
        built = []
        for place, alternatives in enumerate(transforms):
            with at_key(f"transforms[{place}]"):
                built.append(Compose(list(alternatives)).transforms)
        self.subroutines = [Compose(list(steps)) for steps in product(*built)]

    def transform(self, results: dict[str, Any]) -> dict[str, list[Any]]:
        """Returns, for each key, the list of its values in all views.

        Raises:
            DataError: A view was given up, or is no dict.
        """
        views = [each(copy.deepcopy(results)) for each in self.subroutines]
        if not all(isinstance(view, Mapping) for view in views):
            raise DataError("a view of the sample was given up", found=[type(view).__name__ for view in views])
        return {key: [view[key] for view in views] for key in views[0]}
