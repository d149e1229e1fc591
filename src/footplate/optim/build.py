"""From the section `optim_wrapper` to what steps the model's parameters."""

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer

from footplate.distributed import unwrap_model
from footplate.error_context import at_key, origin_of, with_origins
from footplate.errors import BuildError, FootplateError
from footplate.optim.constructors import MultiOptimWrapperConstructor
from footplate.optim.wrappers import OptimWrapper, OptimWrapperDict
from footplate.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZER_BUILDERS

_DEFAULT = "DefaultOptimWrapperConstructor"


def build_optim_wrapper(model: nn.Module, cfg: Any) -> OptimWrapper:
    """Builds the wrapper, or wrappers, that step the parameters of `model`.

    Args:
        model: The model, wrapped for several devices or not.
        cfg: A section `dict(type="OptimWrapper", optimizer=dict(...), paramwise_cfg=..., constructor=...)`, where all
            but `optimizer` may be absent; a dict of such sections or of wrappers by the name of the part of the model
            that each steps; an optimizer; or a wrapper.

    Raises:
        FootplateError: Something in the section cannot be built; the error names its key under `optim_wrapper`.
    """
    with at_key("optim_wrapper"):
        return _build(model, cfg)


def _build(model: nn.Module, cfg: Any) -> OptimWrapper:
    if isinstance(cfg, OptimWrapper):
        return cfg
    if isinstance(cfg, Optimizer):
        return _named(OptimWrapper(cfg), model)
    if not isinstance(cfg, Mapping):
        raise BuildError("optim_wrapper must be a dict, a wrapper or an optimizer", found=cfg)
    if isinstance(cfg.get("optimizer"), Optimizer):
        wrapper: OptimWrapper = OPTIM_WRAPPERS.build(with_origins({"type": "OptimWrapper", **cfg}, cfg))
        return _named(wrapper, model)
    if "optimizer" in cfg or "constructor" in cfg:
        return _construct(model, cfg)
    parts = [part for name, part in cfg.items() if name != "type"]
    if parts and all(isinstance(part, (Mapping, OptimWrapper)) for part in parts):
        return MultiOptimWrapperConstructor(cfg)(model)
    raise BuildError('optim_wrapper needs an "optimizer"', key="optimizer", origin=origin_of(cfg))


def _construct(model: nn.Module, cfg: Mapping[str, Any]) -> OptimWrapper:
    settings = with_origins(cfg, cfg)
    kind = settings.pop("constructor", _DEFAULT)
    paramwise_cfg = settings.pop("paramwise_cfg", None)
    # Constructors of the first generation have a registry of their own.
    of_first = isinstance(kind, str) and kind not in OPTIM_WRAPPER_CONSTRUCTORS and kind in OPTIMIZER_BUILDERS
    try:
        entry = (OPTIMIZER_BUILDERS if of_first else OPTIM_WRAPPER_CONSTRUCTORS).resolve(kind)
    except FootplateError as error:
        error.key, error.origin = "constructor", origin_of(cfg, "constructor")
        raise
    # They take the optimizer's section alone, and return an optimizer.
    takes_optimizer = of_first or "optimizer_cfg" in inspect.signature(entry).parameters
    section = settings.pop("optimizer", None) if takes_optimizer else settings
    constructor = OPTIM_WRAPPER_CONSTRUCTORS.build({"type": entry}, section, paramwise_cfg)
    made = constructor(model)
    if isinstance(made, OptimWrapper):
        return made if isinstance(made, OptimWrapperDict) else _named(made, model)
    if not isinstance(made, Optimizer):
        raise BuildError(
            "a constructor must return an optimizer or its wrapper",
            key="constructor",
            found=made,
            origin=origin_of(cfg),
        )
    rest = {key: value for key, value in settings.items() if key != "optimizer"}
    wrapper: OptimWrapper = OPTIM_WRAPPERS.build(with_origins({"type": "OptimWrapper", **rest}, cfg), optimizer=made)
    wrapper.reasons = getattr(constructor, "reasons", {})
    return _named(wrapper, model)


def _named(wrapper: OptimWrapper, model: nn.Module) -> OptimWrapper:
    wrapper.name_parameters(unwrap_model(model))
    return wrapper
