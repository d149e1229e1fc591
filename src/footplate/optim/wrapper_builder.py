"""Builds the optimizer wrapper from the `optim_wrapper` section."""

import inspect
import logging
from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer

from footplate.distributed import unwrap_model
from footplate.error_context import at_key, origin_of, with_defaults
from footplate.errors import ArgumentError, BuildError
from footplate.messages import list_names, nearest, pluralize
from footplate.optim.constructors import DefaultOptimWrapperConstructor
from footplate.optim.wrappers import OptimWrapper, OptimWrapperDict
from footplate.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZER_BUILDERS

_logger = logging.getLogger("footplate.optim")


def build_optim_wrapper(model: nn.Module, cfg: Any) -> OptimWrapper:
    """Builds the optimizer wrapper for the parameters of `model`.

    Args:
        model: The model, which may be wrapped for distributed training.
        cfg: An optimizer, a wrapper, or a section `dict(type="OptimWrapper", optimizer=dict(...), paramwise_cfg=...,
            constructor=...)`, where only `optimizer` is required. For several optimizers, pass a dict that maps
            submodule names to sections, or arbitrary names to optimizers or wrappers.

    Raises:
        FootplateError: The section cannot be built. The error includes the key path in `optim_wrapper`.
    """
    model = unwrap_model(model)
    with at_key("optim_wrapper"):
        is_single = isinstance(cfg, OptimWrapper) or not has_several_optimizers(cfg)
        built = _build_one(cfg, model) if is_single else MultiOptimWrapperConstructor(cfg)(model)
        _warn_about_untrained(built, model)
        return built


def _warn_about_untrained(wrapper: OptimWrapper, model: nn.Module) -> None:
    """Warns about trainable parameters that no optimizer updates."""
    trained = {id(parameter) for part in wrapper.parts.values() for parameter in part.parameters()}
    trainable = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    names = [name for name, parameter in trainable if id(parameter) not in trained]
    if names and len(names) < len(trainable):
        _logger.warning("No optimizer updates %s. Set requires_grad=False if this is intended.", list_names(names, 5))


def has_several_optimizers(cfg: Any) -> bool:
    """Checks whether the `optim_wrapper` section describes several optimizers."""
    is_by_name = isinstance(cfg, Mapping) and cfg.keys().isdisjoint(("optimizer", "constructor"))
    return is_by_name or isinstance(cfg, OptimWrapperDict)


def _construct(model: nn.Module, cfg: Mapping[str, Any], whole_model: nn.Module | None = None) -> OptimWrapper:
    """Builds a wrapper from a section with `optimizer` and, optionally, `constructor`.

    | case | the constructor takes, besides `paramwise_cfg` | it returns |
    |---|---|---|
    | `optimizer` is an object | there is no constructor | |
    | first-generation constructor | the `optimizer` section | an optimizer |
    | second-generation constructor | the whole section | a wrapper |
    | `MultiOptimWrapperConstructor` | the whole section, with one key for each optimizer | an `OptimWrapperDict` |
    """
    # A constructor for several optimizers treats every key as an optimizer, so it gets no default type.
    settings = with_defaults(cfg, **({"type": "OptimWrapper"} if "optimizer" in cfg else {}))
    if isinstance(cfg.get("optimizer"), Optimizer):
        return _with_parameter_names(OPTIM_WRAPPERS.build(settings), model)
    name = settings.pop("constructor", "DefaultOptimWrapperConstructor")
    paramwise_cfg = settings.pop("paramwise_cfg", None)
    constructor_type, takes_optimizer_alone = _resolve_constructor(name, cfg)
    constructor = constructor_type(cfg.get("optimizer") if takes_optimizer_alone else settings, paramwise_cfg)
    if isinstance(constructor, DefaultOptimWrapperConstructor):
        constructor.whole_model = whole_model
    built = constructor(model)
    if isinstance(built, OptimWrapperDict):
        return built
    if not isinstance(built, OptimWrapper):
        settings.pop("optimizer", None)
        built = OPTIM_WRAPPERS.build(settings, optimizer=built)
    built.reasons = getattr(constructor, "reasons", {})
    return _with_parameter_names(built, model)


def _resolve_constructor(name: Any, cfg: Mapping[str, Any]) -> tuple[Any, bool]:
    """Returns the class of a constructor, and whether it takes only the `optimizer` section.

    The latter is true for first-generation constructors, which have their own registry. Constructors that are not
    registered there are recognized by their argument `optimizer_cfg`.
    """
    is_older = isinstance(name, str) and name not in OPTIM_WRAPPER_CONSTRUCTORS and name in OPTIMIZER_BUILDERS
    registry = OPTIMIZER_BUILDERS if is_older else OPTIM_WRAPPER_CONSTRUCTORS
    constructor_type = registry.resolve(name, cfg, key="constructor")
    return constructor_type, is_older or "optimizer_cfg" in inspect.signature(constructor_type).parameters


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MultiOptimWrapperConstructor:
    """Builds one optimizer wrapper for each submodule in the section.

    Args:
        optim_wrapper_cfg: A dict that maps dotted submodule paths to sections such as `dict(optimizer=...)`, or
            arbitrary names to optimizers or wrappers.
        paramwise_cfg: The default `paramwise_cfg` for all sections.

    Raises:
        BuildError: There is no entry, an entry is not a dict, an optimizer or a wrapper, or the model has no such
            submodule.
    """

    def __init__(self, optim_wrapper_cfg: Mapping[str, Any], paramwise_cfg: Mapping[str, Any] | None = None) -> None:
        self.sections = {name: section for name, section in optim_wrapper_cfg.items() if name != "type"}
        kinds = (Mapping, Optimizer, OptimWrapper)
        if not self.sections or not all(isinstance(section, kinds) for section in self.sections.values()):
            message = "optim_wrapper needs the key 'optimizer'"
            raise BuildError(message, key="optimizer", origin=origin_of(optim_wrapper_cfg))
        self.paramwise_cfg = paramwise_cfg

    def __call__(self, model: nn.Module) -> OptimWrapperDict:
        """Builds the wrappers for the submodules of `model`."""
        wrappers: dict[str, OptimWrapper] = {}
        for name, section in self.sections.items():
            with at_key(name):
                wrappers[name] = self._build(name, section, model)
        return OptimWrapperDict(**wrappers)

    def _build(self, name: str, section: Any, model: nn.Module) -> OptimWrapper:
        if not isinstance(section, Mapping) or isinstance(section.get("optimizer"), Optimizer):
            return _build_one(section, model)
        try:
            submodule = model.get_submodule(name)
        except AttributeError as error:
            near = nearest(name, [*dict(model.named_children()), "optimizer"])
            message = f"the model has no submodule '{name}'"
            raise BuildError(message, origin=origin_of(section), suggestion=near) from error
        return _construct(submodule, with_defaults(section, paramwise_cfg=self.paramwise_cfg), model)


def _build_one(cfg: Any, model: nn.Module) -> OptimWrapper:
    """Builds the wrapper for one optimizer. `cfg` is a wrapper, an optimizer or a config section."""
    if isinstance(cfg, OptimWrapper):
        return cfg
    if isinstance(cfg, Optimizer):
        return _with_parameter_names(OptimWrapper(cfg), model)
    if isinstance(cfg, Mapping):
        return _construct(model, cfg)
    raise BuildError(
        "optim_wrapper must be a dict, a wrapper or an optimizer",
        found=cfg,
        notes=[
            "Pass several optimizers as a dict, such as optim_wrapper={'generator': ..., 'critic': ...}, and "
            "step them in training_step(model, batch, optimizers)."
        ],
    )


def _with_parameter_names(wrapper: OptimWrapper, model: nn.Module) -> OptimWrapper:
    """Passes parameter names to a wrapper, and returns the wrapper.

    Raises:
        ArgumentError: One of the wrapper's parameters does not belong to the model.
    """
    known = set(map(id, model.parameters()))
    own = set(map(id, wrapper.parameters()))
    if own.isdisjoint(known):
        raise ArgumentError(
            "the optimizer does not contain any of the model's parameters, so the model would not be trained",
            key="optimizer",
            notes=["Create the optimizer from model.parameters() of the same model object."],
        )
    if outside := own - known:
        raise ArgumentError(
            "the optimizer has parameters that are not in the model, so checkpoints would not contain them",
            found=pluralize(len(outside), "parameter"),
            key="optimizer",
            notes=[
                "Make them part of the model, for example with `model.scale = nn.Parameter(...)`. If the model was "
                "changed after the optimizer was created, create the optimizer afterwards."
            ],
        )
    wrapper.name_parameters(model)
    return wrapper
