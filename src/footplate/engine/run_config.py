"""Translates and checks configs, and turns them into Runner arguments."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

from footplate.config import Config, check_top_level_keys
from footplate.config.key_paths import merge_options
from footplate.engine.components import build_log_processor
from footplate.engine.hook_list import build_hooks
from footplate.engine.resolved_config import ResolvedConfig
from footplate.engine.runner_arguments import PYTHON_ARGUMENTS
from footplate.engine.sections import READ_KEYS, RUNNER_KEYS, check_sections
from footplate.error_context import located
from footplate.errors import ArgumentError, FootplateError, Origin
from footplate.extensions import extensions
from footplate.messages import nearest
from footplate.registry import RUNNERS


def check_config(cfg: Config) -> Config:
    """Resolves and checks a config. Also builds the hooks and the log processor to validate their arguments.

    Args:
        cfg: A config of either generation.

    Returns:
        The config, translated to the second generation.

    Raises:
        FootplateError: The first error found, with its key path and location.
    """
    cfg = runner_config(cfg)
    with located_in(cfg):
        if "runner_type" in cfg:
            RUNNERS.resolve(cfg["runner_type"], cfg, key="runner_type")
        sections = ResolvedConfig(arguments_in(cfg)).sections
        check_sections(sections)
        build_hooks(sections["default_hooks"], sections["custom_hooks"])
        build_log_processor(sections["log_processor"], sections["train_cfg"])
    return cfg


def arguments_in(cfg: Config) -> dict[str, Any]:
    """Returns the Runner arguments that a second-generation config contains."""
    return {key: cfg[key] for key in RUNNER_KEYS if key in cfg}


def runner_config(cfg: Config, overrides: Mapping[str, Any] | None = None) -> Config:
    """Returns a config whose keys are Runner arguments. Translates first-generation configs.

    Args:
        cfg: A config of either generation.
        overrides: Values to merge into the translated config.

    Raises:
        ConfigKeyError: An unknown key resembles a known one.
        ArgumentError: An override is not a config key, or a required key is missing.
        ConfigError: A key is not supported or cannot be translated, or keys of both generations conflict.
    """
    check_top_level_keys(cfg, known_keys())
    for extension in extensions():
        extension.check_config(cfg)
    cfg = translate_config(cfg)
    if overrides:
        cfg = Config(cfg, cfg.text, cfg.filename, cfg.env_variables)  # a copy
        for name, value in overrides.items():
            if name not in READ_KEYS:
                near = nearest(name, {*READ_KEYS, *PYTHON_ARGUMENTS})
                raise ArgumentError(f"unknown setting '{name}'", key=name, found=value, suggestion=near)
            merge_options(cfg._cfg_dict, {name: value}, origin=Origin("Runner.from_cfg", 0))
    with located_in(cfg):
        for name in ("model", "work_dir"):
            if cfg.get(name) is None:
                raise ArgumentError(f"the config has no '{name}'", key=name)
    return cfg


@contextmanager
def located_in(cfg: Config) -> Iterator[None]:
    """Adds the location of the offending value to errors, or only the config file if the line is unknown."""
    try:
        with located(cfg):
            yield
    except FootplateError as error:
        if error.origin is None and cfg.filename:
            error.origin = Origin(os.path.relpath(cfg.filename), 0)
        raise


def translate_config(cfg: Config) -> Config:
    """Translates a first-generation config. Returns other configs unchanged.

    Raises:
        ConfigError: The config mixes optimization keys of both generations, a key cannot be translated, or an unknown
            key resembles a known one.
    """
    for extension in extensions():
        if extension.config_keys.intersection(cfg):
            cfg = extension.translate(cfg)
    return cfg


@cache
def known_keys() -> frozenset[str]:
    """Returns the known top-level keys of both config generations."""
    return READ_KEYS.union({"vis_backends"}, *(extension.config_keys for extension in extensions()))


def keys_read(cfg: Config) -> frozenset[str]:
    """Returns the top-level keys that have an effect in this config. All other top-level keys are variables."""
    return known_keys() if any(extension.translates(cfg) for extension in extensions()) else READ_KEYS
