"""Builds the optimizer wrapper from the `optim_wrapper` section."""

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer

from footplate.distributed import unwrap_model
from footplate.error_context import at_key, origin_of, with_origins
from footplate.errors import ArgumentError, BuildError, FootplateError
from footplate.optim.constructors import DefaultOptimWrapperConstructor
from footplate.optim.wrappers import OptimWrapper, OptimWrapperDict
from footplate.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZER_BUILDERS


def build_optim_wrapper(model: nn.Module, cfg: Any) -> OptimWrapper:
    """Builds the optimizer wrapper, or wrappers, for the parameters of `model`.

    Args:
        model: The model; it may be wrapped for distributed training.
        cfg: An optimizer, a wrapper, or a section `dict(type="OptimWrapper", optimizer=dict(...), paramwise_cfg=...,
            constructor=...)`, in which only `optimizer` is required. It can also be a dict that maps submodule names to
            sections or wrappers.

    Raises:
        FootplateError: The section cannot be built. The error contains the key path in `optim_wrapper`.
    """
    with at_key("optim_wrapper"):
        if isinstance(cfg, OptimWrapper):
            return cfg
        if isinstance(cfg, Optimizer):
            return _with_parameter_names(OptimWrapper(cfg), model)
        if not isinstance(cfg, Mapping):
            raise BuildError("optim_wrapper must be a dict, a wrapper or an optimizer", found=cfg)
        if isinstance(cfg.get("optimizer"), Optimizer):
            wrapper: OptimWrapper = OPTIM_WRAPPERS.build(with_origins({"type": "OptimWrapper", **cfg}, cfg))
            return _with_parameter_names(wrapper, model)
        if "optimizer" in cfg or "constructor" in cfg:
            return _construct(model, cfg)
        sections = [section for name, section in cfg.items() if name != "type"]
        if sections and all(isinstance(section, (Mapping, OptimWrapper)) for section in sections):
            return MultiOptimWrapperConstructor(cfg)(model)
        raise BuildError('optim_wrapper needs the key "optimizer"', key="optimizer", origin=origin_of(cfg))


def _construct(model: nn.Module, cfg: Mapping[str, Any], whole_model: nn.Module | None = None) -> OptimWrapper:
    settings = with_origins(cfg, cfg)
    kind = settings.pop("constructor", "DefaultOptimWrapperConstructor")
    paramwise_cfg = settings.pop("paramwise_cfg", None)
    # Constructors of the first generation have their own registry.
    is_first_generation = (
        isinstance(kind, str) and kind not in OPTIM_WRAPPER_CONSTRUCTORS and kind in OPTIMIZER_BUILDERS
    )
    try:
        entry = (OPTIMIZER_BUILDERS if is_first_generation else OPTIM_WRAPPER_CONSTRUCTORS).resolve(kind)
    except FootplateError as error:
        error.key, error.origin = "constructor", origin_of(cfg, "constructor")
        raise
    # Constructors of the first generation take only the section `optimizer`, and return an optimizer.
    takes_optimizer = is_first_generation or "optimizer_cfg" in inspect.signature(entry).parameters
    section = settings.pop("optimizer", None) if takes_optimizer else settings
    constructor = OPTIM_WRAPPER_CONSTRUCTORS.build({"type": entry}, section, paramwise_cfg)
    if isinstance(constructor, DefaultOptimWrapperConstructor):
        constructor.whole_model = whole_model
    built = constructor(model)
    if isinstance(built, OptimWrapper):
        return built if isinstance(built, OptimWrapperDict) else _with_parameter_names(built, model)
    if not isinstance(built, Optimizer):
        raise BuildError(
            "a constructor must return an optimizer or an optimizer wrapper",
            key="constructor",
            found=built,
            origin=origin_of(cfg),
        )
    rest = {key: value for key, value in settings.items() if key != "optimizer"}
    wrapper: OptimWrapper = OPTIM_WRAPPERS.build(with_origins({"type": "OptimWrapper", **rest}, cfg), optimizer=built)
    wrapper.reasons = getattr(constructor, "reasons", {})
    return _with_parameter_names(wrapper, model)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MultiOptimWrapperConstructor:
    """Builds one optimizer wrapper for each submodule in the section.

    Args:
        optim_wrapper_cfg: Maps the dotted path of each submodule to its section `dict(optimizer=..., ...)`, or to a
            wrapper.
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
        model = unwrap_model(model)
        wrappers: dict[str, OptimWrapper] = {}
        for name, section in self.sections.items():
            if isinstance(section, OptimWrapper):
                wrappers[name] = section
                continue
            with at_key(name):
                try:
                    submodule = model.get_submodule(name)
                except AttributeError as error:
                    raise BuildError(f"the model has no submodule '{name}'", origin=origin_of(section)) from error
                settings = with_origins({"paramwise_cfg": self.paramwise_cfg, **section}, section)
                wrappers[name] = _construct(submodule, settings, model)
        return OptimWrapperDict(**wrappers)


def _with_parameter_names(wrapper: OptimWrapper, model: nn.Module) -> OptimWrapper:
    """Adds parameter names to a wrapper, unless some of its parameters are outside the model and have no name."""
    model = unwrap_model(model)
    known = set(map(id, model.parameters()))
    own = [id(each) in known for group in wrapper.param_groups for each in group["params"]]
    if not any(own):
        raise ArgumentError(
            "the optimizer has no parameter of the model, so the model would not be trained",
            key="optimizer",
            notes=["Create the optimizer with model.parameters() of the model that you pass."],
        )
    if all(own):
        wrapper.name_parameters(model)
    return wrapper
