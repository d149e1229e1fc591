"""Writers in published configs that footplate does not support; building one raises a clear error."""

from typing import Any, ClassVar

from footplate.errors import ArgumentError
from footplate.records.writers.base import BaseVisBackend
from footplate.registry import VISBACKENDS


class Refused:
    """A base class for names in published configs that footplate does not support; must be the first base.

    Raises:
        ArgumentError: Always, when it is built.
    """

    service: ClassVar[str] = ""
    """The service that the class would use."""
    noun: ClassVar[str] = "writer"
    advice: ClassVar[str] = "register a BaseVisBackend of your own"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise ArgumentError(
            f"footplate has no {self.noun} for {self.service}",
            key="type",
            found=type(self).__name__,
            notes=[f"take another of the writers in docs/records.md, or {self.advice}"],
        )


@VISBACKENDS.register_module()
class NeptuneVisBackend(Refused, BaseVisBackend):
    """Raises an error, because Neptune is not supported."""

    service = "Neptune"


@VISBACKENDS.register_module()
class AimVisBackend(Refused, BaseVisBackend):
    """Raises an error, because Aim is not supported."""

    service = "Aim"
