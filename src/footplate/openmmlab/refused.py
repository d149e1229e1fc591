"""OpenMMLab's writers for services that footplate does not support. Creating one raises an error."""

from typing import Any, ClassVar

from footplate.errors import ArgumentError
from footplate.records import BaseVisBackend
from footplate.registry import VISBACKENDS


class Refused:
    """Base class for unsupported classes that published configs refer to.

    Subclasses must list it as their first base class.

    Raises:
        ArgumentError: The class is instantiated.
    """

    service: ClassVar[str] = ""
    """The unsupported service."""
    noun: ClassVar[str] = "writer"
    advice: ClassVar[str] = "register your own BaseVisBackend"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise ArgumentError(
            f"footplate has no {self.noun} for {self.service}",
            key="type",
            found=type(self).__name__,
            notes=[f"Use another writer listed in docs/records.md, or {self.advice}."],
        )


def _refused(service: str) -> type[BaseVisBackend]:
    """Registers and returns a writer class, named as in MMEngine, whose constructor raises an error."""
    members = {
        "__doc__": f"Raises an error, because {service} is not supported.",
        "__module__": __name__,
        "service": service,
    }
    return VISBACKENDS.register_module(module=type(f"{service}VisBackend", (Refused, BaseVisBackend), members))


AimVisBackend, NeptuneVisBackend = map(_refused, ("Aim", "Neptune"))
