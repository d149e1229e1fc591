"""Names of writers that published configs use and that have no library here: each says so, in one sentence."""

from typing import Any

from footplate.errors import ArgumentError
from footplate.records.writers.base import BaseVisBackend
from footplate.registry import VISBACKENDS


class _Refused(BaseVisBackend):
    service = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise ArgumentError(
            f"footplate has no writer for {self.service}",
            key="type",
            found=type(self).__name__,
            notes=["take another of the writers in docs/records.md, or register a BaseVisBackend of your own"],
        )


@VISBACKENDS.register_module()
class NeptuneVisBackend(_Refused):
    """Refused: there is no writer for Neptune."""

    service = "Neptune"


@VISBACKENDS.register_module()
class AimVisBackend(_Refused):
    """Refused: there is no writer for Aim."""

    service = "Aim"
