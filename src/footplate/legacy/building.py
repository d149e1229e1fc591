"""Building objects as first-generation code does: `build_from_cfg(cfg, REGISTRY)`."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from footplate.distributed import unwrap_model
from footplate.errors import BuildError
from footplate.optim import build_optimizer as _build_optimizer
from footplate.registry import DATASETS, OPTIMIZER_BUILDERS, OPTIMIZERS, Registry


def build_from_cfg(cfg: Mapping[str, Any], registry: Registry, default_args: Mapping[str, Any] | None = None) -> Any:
    """Builds an object from its dict.

    Args:
        cfg: `type`, a name or class, and constructor arguments.
        registry: Where names are looked up.
        default_args: Arguments that `cfg` may leave out.

    Raises:
        BuildError: `registry` is none, or an argument does not fit.
    """
    if not isinstance(registry, Registry):
        raise BuildError("build_from_cfg takes a Registry", found=registry)
    settings = {**(default_args or {}), **cfg}
    if registry is OPTIMIZERS:
        return _build_optimizer(settings, settings.pop("params"))
    return registry.build_entry(settings)


def build_optimizer_constructor(cfg: Mapping[str, Any]) -> Any:
    """Builds the constructor of an optimizer from its dict."""
    return build_from_cfg(cfg, OPTIMIZER_BUILDERS)


def build_optimizer(model: nn.Module, cfg: Mapping[str, Any]) -> Any:
    """Builds an optimizer over the parameters of a model, by the constructor that the section names."""
    settings = dict(cfg)
    kind = settings.pop("constructor", "DefaultOptimizerConstructor")
    paramwise_cfg = settings.pop("paramwise_cfg", None)
    build = build_optimizer_constructor({"type": kind, "optimizer_cfg": settings, "paramwise_cfg": paramwise_cfg})
    built = build(unwrap_model(model))
    return getattr(built, "optimizer", built)


def obj_from_dict(info: Mapping[str, Any], parent: Any = None, default_args: Mapping[str, Any] | None = None) -> Any:
    """Builds an object whose `type` is a class, or a name in the module `parent`."""
    settings = {**(default_args or {}), **info}
    kind = settings.pop("type")
    if isinstance(kind, str):
        if parent is None or not hasattr(parent, kind):
            raise BuildError(f"there is no '{kind}' in {getattr(parent, '__name__', parent)}")
        kind = getattr(parent, kind)
    return kind(**settings)


def build_dataset(cfg: Any, default_args: Mapping[str, Any] | None = None) -> Any:
    """Builds a data set, or of several in a list one that holds them all."""
    if isinstance(cfg, (list, tuple)):
        return DATASETS.build({"type": "ConcatDataset", "datasets": list(cfg)})
    return build_from_cfg(cfg, DATASETS, default_args)
