"""OpenMMLab's writers for services that footplate does not support. Creating one raises an error."""

from footplate.openmmlab.skipped_imports import placeholder
from footplate.records import BaseVisBackend
from footplate.registry import VISBACKENDS


def unsupported_writer(name: str, base: type, module: str) -> type:
    """Returns a subclass of `base` that raises an error, which lists the alternatives, when an instance is created."""
    advice = f"Use another writer listed in docs/records.md, or your own {base.__name__}."
    return placeholder(name, module, f"footplate does not support '{name}'. {advice}", base)


AimVisBackend, NeptuneVisBackend = (
    VISBACKENDS.register_module(module=unsupported_writer(name, BaseVisBackend, __name__))
    for name in ("AimVisBackend", "NeptuneVisBackend")
)
