"""One optimizer for each of several parts of a model."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from footplate.distributed import unwrap_model
from footplate.error_context import at_key, origin_of, with_origins
from footplate.errors import ArgumentError, BuildError
from footplate.optim.wrappers import OptimWrapper, OptimWrapperDict
from footplate.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MultiOptimWrapperConstructor:
    """Builds a wrapper for each part of the model that the section names.

    Args:
        optim_wrapper_cfg: Sections `dict(optimizer=..., ...)`, or wrappers, by the dotted path of a part.
        paramwise_cfg: Settings per parameter, for sections without their own.

    Raises:
        ArgumentError: An entry is neither a section nor a wrapper.
    """

    def __init__(self, optim_wrapper_cfg: Mapping[str, Any], paramwise_cfg: Mapping[str, Any] | None = None) -> None:
        self.parts = {name: part for name, part in optim_wrapper_cfg.items() if name != "type"}
        self.paramwise_cfg = paramwise_cfg
        for name, part in self.parts.items():
            if not isinstance(part, (Mapping, OptimWrapper)):
                raise ArgumentError("the optimizers of a model's parts are dicts or wrappers", key=name, found=part)

    def __call__(self, model: nn.Module) -> OptimWrapperDict:
        """Returns the wrappers of the parts of `model`."""
        return OptimWrapperDict(**{name: self._build(model, name, part) for name, part in self.parts.items()})

    def _build(self, model: nn.Module, name: str, part: Any) -> OptimWrapper:
        if isinstance(part, OptimWrapper):
            return part
        with at_key(name):
            defaults = {"constructor": "DefaultOptimWrapperConstructor", "paramwise_cfg": self.paramwise_cfg}
            settings = with_origins({**defaults, **part}, part)
            kind, paramwise = settings.pop("constructor"), settings.pop("paramwise_cfg")
            constructor = OPTIM_WRAPPER_CONSTRUCTORS.build({"type": kind}, settings, paramwise)
            built: OptimWrapper = constructor(_part_of(unwrap_model(model), name, part))
            return built


def _part_of(model: nn.Module, path: str, source: Any) -> nn.Module:
    try:
        return model.get_submodule(path)
    except AttributeError as error:
        raise BuildError(f"the model has no part '{path}' to optimize", origin=origin_of(source)) from error
