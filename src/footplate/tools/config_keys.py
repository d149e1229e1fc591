"""Determines which keys each section of a config accepts, based on the constructor of the section's class."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from inspect import Parameter
from itertools import chain
from typing import Any

from footplate.data import LOADER_KEYS
from footplate.distributed.process_group import DIST_KEYS
from footplate.engine.control.hook_list import DEFAULT_HOOKS
from footplate.engine.control.process_setup import ENVIRONMENT_KEYS, RANDOMNESS_KEYS, WORKER_KEYS
from footplate.engine.loops.loop_classes import loop_settings
from footplate.engine.plan.arguments import SECOND_GENERATION_KEYS
from footplate.engine.saving.nonfinite import NONFINITE_DEFAULTS
from footplate.errors import ArgumentError
from footplate.evaluation.evaluation_sets import has_several_loaders
from footplate.optim.learning_rate_scaling import SCALING_KEYS
from footplate.optim.paramwise import PARAMWISE_KEYS
from footplate.optim.wrappers.gradient_checks import CLIPPING_KEYS
from footplate.registry import (
    DATA_SAMPLERS,
    DATASETS,
    HOOKS,
    LOG_PROCESSORS,
    LOOPS,
    METRICS,
    MODEL_WRAPPERS,
    MODELS,
    OPTIM_WRAPPERS,
    OPTIMIZERS,
    PARAM_SCHEDULERS,
    TRANSFORMS,
    VISBACKENDS,
    VISUALIZERS,
    WEIGHT_INITIALIZERS,
    Registry,
)
from footplate.registry.arguments import arguments_of
from footplate.torch_compile import ARGUMENTS as COMPILE_KEYS

MODES = ("train", "val", "test")
SECTION_REGISTRIES: Mapping[str, Registry] = {
    **{f"{mode}_cfg": LOOPS for mode in MODES},
    "default_hooks": HOOKS,
    "custom_hooks": HOOKS,
    "optim_wrapper": OPTIM_WRAPPERS,
    "param_scheduler": PARAM_SCHEDULERS,
    "val_evaluator": METRICS,
    "test_evaluator": METRICS,
    "model": MODELS,
    "model_wrapper_cfg": MODEL_WRAPPERS,
    "data_preprocessor": MODELS,
    "tta_model": MODELS,
    "tta_pipeline": TRANSFORMS,
    "visualizer": VISUALIZERS,
    "log_processor": LOG_PROCESSORS,
}
"""Maps each top-level key to the registry that contains its classes."""

NESTED_REGISTRIES: Mapping[str, Registry] = {
    "dataset": DATASETS,
    "datasets": DATASETS,
    "pipeline": TRANSFORMS,
    "transforms": TRANSFORMS,
    "sampler": DATA_SAMPLERS,
    "batch_sampler": DATA_SAMPLERS,
    "optimizer": OPTIMIZERS,
    "vis_backends": VISBACKENDS,
    "init_cfg": WEIGHT_INITIALIZERS,
}
"""Maps a key within a section to the registry that contains its classes. Other keys use their section's registry."""

PASSED_ARGUMENTS: Mapping[Registry, Collection[str]] = {
    LOOPS: ("runner", "dataloader", "evaluator"),
    MODEL_WRAPPERS: ("module",),
    OPTIMIZERS: ("params",),
    PARAM_SCHEDULERS: ("optimizer",),
    DATA_SAMPLERS: ("dataset",),
}
"""Maps each registry to the arguments that the engine passes to its classes."""

EXTRA_ARGUMENTS: Mapping[Registry, Collection[str]] = {
    LOOPS: ("by_epoch",),
    HOOKS: ("priority",),
    OPTIM_WRAPPERS: ("constructor", "paramwise_cfg"),
    WEIGHT_INITIALIZERS: ("override",),
}
"""Maps each registry to the keys that a config may set in addition to a class's arguments."""

FIXED_KEYS: Mapping[str, Collection[str]] = {
    **{f"{mode}_dataloader": LOADER_KEYS for mode in MODES},
    "default_hooks": DEFAULT_HOOKS,
    "optim_wrapper.clip_grad": {"type", *chain.from_iterable(CLIPPING_KEYS.values())},
    "optim_wrapper.paramwise_cfg": PARAMWISE_KEYS,
    "env_cfg": ENVIRONMENT_KEYS,
    "env_cfg.mp_cfg": WORKER_KEYS,
    "env_cfg.dist_cfg": DIST_KEYS,
    "randomness": RANDOMNESS_KEYS,
    "on_nonfinite": NONFINITE_DEFAULTS,
    "auto_scale_lr": SCALING_KEYS,
    "compile": (*COMPILE_KEYS, "target", "regions"),
}
"""Maps the key path of each section that does not configure a class to the keys that the section accepts."""

DEFAULT_TYPES = {
    **{f"default_hooks.{name}": hook["type"] for name, hook in DEFAULT_HOOKS.items()},
    "optim_wrapper": "OptimWrapper",
    "log_processor": "LogProcessor",
    "visualizer": "Visualizer",
    "val_cfg": "ValLoop",
    "test_cfg": "TestLoop",
}
"""Maps the key path of a section to its default `type`. The default for `train_cfg` depends on its keys."""


def accepted_keys(cfg: Mapping[Any, Any], parts: Sequence[str]) -> Collection[str]:
    """Returns the keys accepted in a second-generation config section, or an empty collection if they are unknown.

    For a class, returns a mapping from each key to its default and the types that its annotation allows; see
    `Arguments`.

    Does not import user modules. For a section without `type`, the default class determines the keys.

    Args:
        cfg: The config.
        parts: The key path of the section; empty for the top-level keys.
    """
    if not parts:
        return SECOND_GENERATION_KEYS
    section: Any = cfg
    for part in parts:
        section = _child(section, part)
    registry = SECTION_REGISTRIES.get(parts[0])
    for part in parts[1:]:
        registry = NESTED_REGISTRIES.get(part, registry)
    if parts[0].endswith("_dataloader") and len(parts) == 2 and has_several_loaders(_child(cfg, parts[0])):
        return LOADER_KEYS
    path = ".".join(parts)
    if path in FIXED_KEYS or registry is None:
        return FIXED_KEYS.get(path, ())
    kind = section.get("type") if isinstance(section, Mapping) else None
    if kind is None and path == "train_cfg":
        with suppress(ArgumentError):  # `by_epoch` is invalid; the config check reports it
            kind = loop_settings(section, "train")["type"]
    elif kind is None:
        kind = DEFAULT_TYPES.get(path)
    if isinstance(kind, str):
        kind = registry.get(kind) if kind in registry else None
    names = class_arguments(kind, registry) if callable(kind) else None
    if names is None:
        return ()
    known = arguments_of(kind)
    return {
        name: (known.defaults.get(name, Parameter.empty), known.types.get(name, ()))
        for name in (*names, *EXTRA_ARGUMENTS.get(registry, ()), "type")
    }


def class_arguments(entry: Callable[..., Any], registry: Registry) -> list[str] | None:
    """Returns the arguments that a config may pass to a registered class, or None if the class accepts any argument."""
    arguments = arguments_of(entry)
    if arguments.accepts_any:
        return None
    return [name for name in arguments.types if name not in PASSED_ARGUMENTS.get(registry, ())]


def _child(section: Any, part: str) -> Any:
    """Returns the value at a key or index of a section, or an empty dict if none exists."""
    if isinstance(section, (list, tuple)):
        return section[int(part)] if part.isdigit() and int(part) < len(section) else {}
    value = section.get(part) if isinstance(section, Mapping) else None
    return {} if value is None else value
