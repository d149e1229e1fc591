"""Chains transforms into a pipeline."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from footplate.error_context import at_key
from footplate.errors import ArgumentError
from footplate.registry import TRANSFORMS

Transform = Callable[[Any], Any]


@TRANSFORMS.register_module()
class Compose:
    """Applies transforms in order, and stops if one returns None.

    Args:
        transforms: A callable or a config for TRANSFORMS, or a list of these.

    Raises:
        ArgumentError: One is neither.

    Example:
        >>> Compose([lambda data: data + 1, lambda data: data * 2])(3)
        8
    """

    def __init__(self, transforms: Sequence[Transform | Mapping[str, Any]] | Transform | None) -> None:
        several = transforms if isinstance(transforms, Sequence) else [transforms] if transforms else []
        self.transforms = [_build(transform, place) for place, transform in enumerate(several)]

    def __call__(self, data: Any) -> Any:
        """Returns the transformed sample, or None if a transform dropped it."""
        for transform in self.transforms:
            data = transform(data)
            if data is None:
                return None
        return data

    def __repr__(self) -> str:
        lines = "".join(f"    {transform!r}\n" for transform in self.transforms)
        return f"{type(self).__name__}(\n{lines})"


def _build(transform: Any, place: int) -> Transform:
    if isinstance(transform, Mapping):
        with at_key(f"[{place}]"):
            transform = TRANSFORMS.build(transform)
    if not callable(transform):
        raise ArgumentError("a transform is a function or a dict with its 'type'", key=f"[{place}]", found=transform)
    return transform  # type: ignore[no-any-return]
