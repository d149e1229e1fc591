"""Builds the optimizer wrapper from the `optim_wrapper` section, and scales its learning rates: `auto_scale_lr`."""

import inspect
import logging
from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer

from footplate.checks import check_count, check_flag, check_keys
from footplate.distributed import get_data_world_size, unwrap_model
from footplate.error_context import at_key, origin_of, with_origins
from footplate.errors import ArgumentError, BuildError, FootplateError
from footplate.optim.constructors import DefaultOptimWrapperConstructor
from footplate.optim.wrappers import OptimWrapper, OptimWrapperDict
from footplate.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZER_BUILDERS

SCALING_KEYS = ("enable", "base_batch_size")  # the keys of auto_scale_lr
_logger = logging.getLogger("footplate.optim")
_PARTS = (Mapping, Optimizer, OptimWrapper)  # the settings of one of several optimizers
# Optimizers that compute their own step size: their lr is a factor of it and is not scaled.
_WITHOUT_RATE = ("DAdapt", "Prodigy")


def build_optim_wrapper(model: nn.Module, cfg: Any) -> OptimWrapper:
    """Builds the optimizer wrapper, or wrappers, for the parameters of `model`.

    Args:
        model: The model; it may be wrapped for distributed training.
        cfg: An optimizer, a wrapper, or a section `dict(type="OptimWrapper", optimizer=dict(...), paramwise_cfg=...,
            constructor=...)`, in which only `optimizer` is required. It can also be a dict that maps submodule names to
            sections, or any names to optimizers or wrappers.

    Raises:
        FootplateError: The section cannot be built. The error contains the key path in `optim_wrapper`.
    """
    with at_key("optim_wrapper"):
        if isinstance(cfg, OptimWrapper):
            return cfg
        if isinstance(cfg, Optimizer):
            return _with_parameter_names(OptimWrapper(cfg), model)
        if not isinstance(cfg, Mapping):
            raise BuildError(
                "optim_wrapper must be a dict, a wrapper or an optimizer",
                found=cfg,
                notes=["Pass several optimizers as a dict: `{name: optimizer}`."],
            )
        if isinstance(cfg.get("optimizer"), Optimizer):
            wrapper: OptimWrapper = OPTIM_WRAPPERS.build(with_origins({"type": "OptimWrapper", **cfg}, cfg))
            return _with_parameter_names(wrapper, model)
        if "optimizer" in cfg or "constructor" in cfg:
            return _construct(model, cfg)
        sections = [section for name, section in cfg.items() if name != "type"]
        if sections and all(isinstance(section, _PARTS) for section in sections):
            return MultiOptimWrapperConstructor(cfg)(model)
        raise BuildError('optim_wrapper needs the key "optimizer"', key="optimizer", origin=origin_of(cfg))


def has_several_optimizers(cfg: Any) -> bool:
    """Checks whether the section `optim_wrapper` describes several optimizers."""
    is_single = not isinstance(cfg, Mapping) or "optimizer" in cfg or "constructor" in cfg
    return isinstance(cfg, OptimWrapperDict) or not is_single


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
        optim_wrapper_cfg: Maps the dotted path of each submodule to its section `dict(optimizer=..., ...)`, or any name
            to an optimizer or a wrapper.
        paramwise_cfg: The default `paramwise_cfg` of the sections.

    Raises:
        ArgumentError: An entry is neither a dict nor an optimizer nor a wrapper.
    """

    def __init__(self, optim_wrapper_cfg: Mapping[str, Any], paramwise_cfg: Mapping[str, Any] | None = None) -> None:
        self.sections = {name: section for name, section in optim_wrapper_cfg.items() if name != "type"}
        self.paramwise_cfg = paramwise_cfg
        for name, section in self.sections.items():
            if not isinstance(section, _PARTS):
                problem = "the optimizer of a submodule must be a dict, an optimizer or an optimizer wrapper"
                raise ArgumentError(problem, key=name, found=section)

    def __call__(self, model: nn.Module) -> OptimWrapperDict:
        """Returns the wrappers of the submodules of `model`."""
        model = unwrap_model(model)
        wrappers: dict[str, OptimWrapper] = {}
        for name, section in self.sections.items():
            if isinstance(section, OptimWrapper):
                wrappers[name] = section
                continue
            with at_key(name):
                if isinstance(section, Optimizer):
                    wrappers[name] = _with_parameter_names(OptimWrapper(section), model)
                    continue
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


def scale_learning_rates(optim_wrapper: Any, loader: Any, cfg: Mapping[str, Any] | None) -> None:
    """Scales all learning rates by the ratio of the global batch size to the batch size that the config assumes.

    Args:
        optim_wrapper: The wrapper of one optimizer, or of several.
        loader: The training loader.
        cfg: The value of `auto_scale_lr`, a dict with `enable` and `base_batch_size` (the number of samples per
            iteration over all processes).

    Raises:
        ArgumentError: A key is unknown, a value is invalid, or the loader has no batch size.

    Source: the linear scaling rule of Goyal et al., "Accurate, Large Minibatch SGD", arXiv:1706.02677, section 2.1.
    """
    base = base_batch_size(cfg)
    if base is None:
        return
    sizes = [getattr(each, "batch_size", None) for each in (loader, getattr(loader, "batch_sampler", None))]
    batch = next((size for size in sizes if isinstance(size, int)), None)
    if batch is None:
        raise ArgumentError(
            "auto_scale_lr requires the number of samples in a batch, but the training loader has no batch_size",
            key="enable",
            notes=["Set `train_dataloader=dict(batch_size=...)`."],
        )
    processes = get_data_world_size()
    factor = batch * processes / base
    _logger.info(
        "auto_scale_lr: %d x %d samples on %d processes = %d per iteration. With base_batch_size=%d, the factor is "
        "%g: %s",
        processes,
        batch,
        processes,
        batch * processes,
        base,
        factor,
        "; ".join(_scale(part.optimizer, name, factor) for name, part in optim_wrapper.parts.items()),
    )


def base_batch_size(cfg: Mapping[str, Any] | None) -> int | None:
    """Returns the global batch size that the configured learning rates assume, or None if scaling is disabled.

    Args:
        cfg: The value of `auto_scale_lr`; see `scale_learning_rates`.

    Raises:
        ArgumentError: A key is unknown, or a value is invalid.
    """
    check_keys("auto_scale_lr", cfg or {}, SCALING_KEYS, prefix="")
    if cfg is None or not check_flag("enable", cfg.get("enable", False)):
        return None
    return check_count("base_batch_size", cfg.get("base_batch_size"))


def _scale(optimizer: Any, name: str, factor: float) -> str:
    """Scales the learning rates of one optimizer, and returns a description for the log."""
    label = f"{name}: " if name else ""
    kind = type(optimizer).__name__
    if kind.startswith(_WITHOUT_RATE) or not all(group.get("lr") is not None for group in optimizer.param_groups):
        return f"{label}{kind} computes its own step size, so its lr is not scaled"
    before = list(dict.fromkeys(float(group["lr"]) for group in optimizer.param_groups))
    for group in optimizer.param_groups:
        for rate in ("lr", "initial_lr"):
            if rate in group:
                group[rate] = group[rate] * factor
    return label + ", ".join(f"lr {rate:g} -> {rate * factor:g}" for rate in before)
