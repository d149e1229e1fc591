"""The constructor that builds one optimizer for each of several submodules."""

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
    """Builds one optimizer wrapper for each submodule in the section.

    Args:
        optim_wrapper_cfg: Sections `dict(optimizer=..., ...)`, or wrappers, by the dotted path of a submodule.
        paramwise_cfg: The default `paramwise_cfg` of the sections.

    Raises:
        ArgumentError: An entry is neither a dict nor a wrapper.
    """

    def __init__(self, optim_wrapper_cfg: Mapping[str, Any], paramwise_cfg: Mapping[str, Any] | None = None) -> None:
        self.sections = {name: section for name, section in optim_wrapper_cfg.items() if name != "type"}
        self.paramwise_cfg = paramwise_cfg
        for name, section in self.sections.items():
            if not isinstance(section, (Mapping, OptimWrapper)):
                raise ArgumentError(
                    "the optimizer of a submodule must be a dict or an optimizer wrapper", key=name, found=section
                )

    def __call__(self, model: nn.Module) -> OptimWrapperDict:
        """Returns the wrappers of the submodules of `model`."""
        return OptimWrapperDict(**{name: self._build(model, name, section) for name, section in self.sections.items()})

    def _build(self, model: nn.Module, name: str, section: Any) -> OptimWrapper:
        if isinstance(section, OptimWrapper):
            return section
        with at_key(name):
            defaults = {"constructor": "DefaultOptimWrapperConstructor", "paramwise_cfg": self.paramwise_cfg}
            settings = with_origins({**defaults, **section}, section)
            kind, paramwise = settings.pop("constructor"), settings.pop("paramwise_cfg")
            constructor = OPTIM_WRAPPER_CONSTRUCTORS.build({"type": kind}, settings, paramwise)
            try:
                submodule = unwrap_model(model).get_submodule(name)
            except AttributeError as error:
                raise BuildError(f"the model has no submodule '{name}'", origin=origin_of(section)) from error
            wrapper: OptimWrapper = constructor(submodule)
            return wrapper
