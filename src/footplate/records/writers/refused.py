"""Names of writers that published configs use and that have no library here: each says so, in one sentence."""

from typing import Any, ClassVar

from footplate.errors import ArgumentError
from footplate.records.writers.base import BaseVisBackend
from footplate.registry import VISBACKENDS


class Refused:
    """What has a name that published configs use and nothing behind it; a class derives from it first.

    Raises:
        ArgumentError: Always, when it is built.
    """

    service: ClassVar[str] = ""
    """What it would hand a run to."""
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
    """Refused: there is no writer for Neptune."""

    service = "Neptune"


@VISBACKENDS.register_module()
class AimVisBackend(Refused, BaseVisBackend):
    """Refused: there is no writer for Aim."""

    service = "Aim"
