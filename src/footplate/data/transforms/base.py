"""The base class of transforms."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar


class BaseTransform(ABC):
    """Transforms the dict of a sample, or returns None to drop the sample.

    Random transforms use the global generators of Python, numpy or torch, which the loader seeds for each sample.

    Attributes:
        keepable: Whether the result is deterministic and worth caching; see `keep_in_memory` of `BaseDataset`. A
            subclass that overrides `transform` must set it again.
        fixed: Whether the result is deterministic, even if it is not worth caching; see the `cache` of a data loader.
    """

    keepable: ClassVar[bool] = False
    fixed: ClassVar[bool] = False

    @abstractmethod
    def transform(self, results: dict[str, Any]) -> Any:
        """Returns the transformed sample, or None to drop it."""

    def __call__(self, results: dict[str, Any]) -> Any:
        """Calls `transform`."""
        return self.transform(results)
