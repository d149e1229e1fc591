"""The base class of layers whose arguments are their attributes."""

from dataclasses import fields
from typing import Any

from torch import nn


class Settings(nn.Module):
    """The base class of layers that are dataclasses, without `eq` and `repr`. `repr` shows the fields of a layer.

    A subclass that is no dataclass, such as that of a user, inherits `__init__`.
    """

    def __post_init__(self) -> None:
        super().__init__()

    def values(self) -> tuple[Any, ...]:
        """Returns the values of the fields, in order."""
        return tuple(getattr(self, field.name) for field in fields(self))  # type: ignore[arg-type]

    def extra_repr(self) -> str:
        return ", ".join(f"{name.name}={value}" for name, value in zip(fields(self), self.values(), strict=True))  # type: ignore[arg-type]
