"""The base class of layers whose arguments are their attributes."""

from dataclasses import dataclass, fields
from typing import Any

from torch import nn
from typing_extensions import dataclass_transform


@dataclass_transform(eq_default=False)
class Settings(nn.Module):
    """A layer of this package whose fields, as in a dataclass, are its arguments and attributes. `repr` shows them.

    A class outside the package inherits `__init__`, as from any module. Its annotations are no fields.
    """

    def __init_subclass__(cls) -> None:
        if cls.__module__.startswith(f"{__package__}."):
            dataclass(eq=False, repr=False)(cls)

    def __post_init__(self) -> None:
        super().__init__()

    def values(self) -> tuple[Any, ...]:
        """Returns the values of the fields, in order."""
        return tuple(getattr(self, field.name) for field in fields(self))  # type: ignore[arg-type]

    def extra_repr(self) -> str:
        return ", ".join(f"{name.name}={value}" for name, value in zip(fields(self), self.values(), strict=True))  # type: ignore[arg-type]
