"""Build functions of mmcv that first-generation code imports, such as `build_from_cfg(cfg, REGISTRY)`."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from footplate.distributed import unwrap_model
from footplate.errors import BuildError
from footplate.optim import build_optimizer as _build_optimizer
from footplate.registry import DATASETS, OPTIMIZER_BUILDERS, OPTIMIZERS, Registry


def build_from_cfg(cfg: Mapping[str, Any], registry: Registry, default_args: Mapping[str, Any] | None = None) -> Any:
    """Builds an object from its config.

    Args:
        cfg: `type`, a name or class, and the arguments of the constructor.
        registry: The registry for names.
        default_args: Default values of the arguments.

    Raises:
        BuildError: `registry` is not a Registry, or an argument is invalid.
    """
    if not isinstance(registry, Registry):
        raise BuildError("the registry of build_from_cfg must be a Registry", found=registry)
    settings = {**(default_args or {}), **cfg}
    if registry is OPTIMIZERS:
        return _build_optimizer(settings, settings.pop("params"))
    return registry.build_entry(settings)


def build_optimizer_constructor(cfg: Mapping[str, Any]) -> Any:
    """Builds an optimizer constructor from its config."""
    return build_from_cfg(cfg, OPTIMIZER_BUILDERS)


def build_optimizer(model: nn.Module, cfg: Mapping[str, Any]) -> Any:
    """Builds an optimizer for the parameters of a model, with the `constructor` of the config."""
    settings = dict(cfg)
    kind = settings.pop("constructor", "DefaultOptimizerConstructor")
    paramwise_cfg = settings.pop("paramwise_cfg", None)
    build = build_optimizer_constructor({"type": kind, "optimizer_cfg": settings, "paramwise_cfg": paramwise_cfg})
    built = build(unwrap_model(model))
    return getattr(built, "optimizer", built)


def obj_from_dict(info: Mapping[str, Any], parent: Any = None, default_args: Mapping[str, Any] | None = None) -> Any:
    """Builds an object whose `type` is a class, or the name of a class in the module `parent`."""
    settings = {**(default_args or {}), **info}
    kind = settings.pop("type")
    if isinstance(kind, str):
        if parent is None or not hasattr(parent, kind):
            raise BuildError(f"there is no '{kind}' in {getattr(parent, '__name__', parent)}")
        kind = getattr(parent, kind)
    return kind(**settings)


def build_dataset(cfg: Any, default_args: Mapping[str, Any] | None = None) -> Any:
    """Builds a dataset; a list of configs becomes a ConcatDataset."""
    if isinstance(cfg, (list, tuple)):
        return DATASETS.build({"type": "ConcatDataset", "datasets": list(cfg)})
    return build_from_cfg(cfg, DATASETS, default_args)
