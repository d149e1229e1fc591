"""The build functions of `mmengine.registry`."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from footplate.registry import Registry
from footplate.registry.root import build_model


def build_model_from_cfg(cfg: Any, registry: Registry, default_args: Mapping[str, Any] | None = None) -> nn.Module:
    """Builds a module from a config, or a `Sequential` from a list of configs."""
    return build_model(cfg, registry=registry, default_args=default_args)  # type: ignore[no-any-return]


def build_runner_from_cfg(cfg: Any, registry: Registry) -> Any:
    """Builds a runner from the config of a run; `runner_type` selects a class other than `Runner`."""
    kind: Any = registry.get(cfg.get("runner_type", "Runner"))
    return kind.from_cfg(cfg)


def build_scheduler_from_cfg(cfg: Any, registry: Registry, default_args: Mapping[str, Any] | None = None) -> Any:
    """Builds a schedule from a config; `convert_to_iter_based` converts epochs to iterations."""
    return registry.build_entry(cfg, default_args=default_args)
