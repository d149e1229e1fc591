"""OpenMMLab's writers for services that footplate does not support. Creating one raises an error."""

from typing import Any, NoReturn

from footplate.errors import ArgumentError
from footplate.records import BaseVisBackend
from footplate.registry import VISBACKENDS, Registry


def refuse(service: str, base: type, registry: Registry, *, module: str, noun: str, advice: str) -> Any:
    """Registers and returns a subclass of `base` whose constructor raises an error.

    Published configs refer to such classes by their OpenMMLab names.

    Args:
        service: The unsupported service, which is the first part of the class name.
        base: The base class. Its name without `Base` is the second part of the class name.
        registry: The registry for the class.
        module: The module of the class.
        noun: The kind of class shown in the error message, such as "writer".
        advice: The alternative suggested in the error message, in the imperative.
    """
    name = f"{service}{base.__name__.removeprefix('Base')}"

    def initialize(self: Any, *args: Any, **kwargs: Any) -> NoReturn:
        notes = [f"Use another writer listed in docs/records.md, or {advice}."]
        raise ArgumentError(f"footplate has no {noun} for {service}", key="type", found=name, notes=notes)

    document = f"Raises an error, because there is no {noun} for {service}."
    members = {"__init__": initialize, "__doc__": document, "__module__": module}
    return registry.register_module(module=type(name, (base,), members))


AimVisBackend, NeptuneVisBackend = (
    refuse(
        service, BaseVisBackend, VISBACKENDS, module=__name__, noun="writer", advice="register your own BaseVisBackend"
    )
    for service in ("Aim", "Neptune")
)
