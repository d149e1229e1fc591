"""The base class of transforms."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar


class BaseTransform(ABC):
    """Takes the dict of a sample and returns it changed, or None to give the sample up.

    Random transforms draw from the global generators of Python, numpy or torch, which the loader seeds for
    each sample.

    Attributes:
        keepable: Whether the result is always the same and worth keeping, see `BaseDataset`'s keep_in_memory. A
            subclass that overrides `transform` says it anew.
        fixed: Whether the result is always the same, though it need not be worth keeping; see a loader's `cache`.
    """

    keepable: ClassVar[bool] = False
    fixed: ClassVar[bool] = False

    @abstractmethod
    def transform(self, results: dict[str, Any]) -> Any:
        """Returns the changed sample, or None."""

    def __call__(self, results: dict[str, Any]) -> Any:
        """Does what `transform` does."""
        return self.transform(results)
