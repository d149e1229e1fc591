"""Detects and translates first-generation configs. The engine calls `translate_for_run` via `extensions.py`."""

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

from footplate.config import Config, ConfigDict, KeyOrigin
from footplate.config.config_dict import is_variable
from footplate.error_context import located, origin_of
from footplate.errors import ConfigError, FootplateError
from footplate.messages import describe_exception, nearest
from footplate_openmmlab.first_generation.translation import (
    data_rules,
    evaluation_rules,
    hook_rules,
    leftover_rules,
    log_rules,
    model_rules,
    optimizer_rules,
    runtime_rules,
    schedule_rules,
)
from footplate_openmmlab.first_generation.translation.draft import Draft, Kind, Note, Rule

_logger = logging.getLogger("footplate.openmmlab.first_generation")

AnyConfig = Config | Mapping[str, Any]

RULES: tuple[Rule, ...] = (
    leftover_rules.leftovers,
    runtime_rules.renamed,
    runtime_rules.dist_params,
    runtime_rules.sync_bn,
    runtime_rules.resume,
    runtime_rules.device,
    model_rules.model_settings,
    model_rules.model_adapter,
    optimizer_rules.optimizer,
    optimizer_rules.optimizer_config,
    optimizer_rules.fp16,
    schedule_rules.lr_config,
    schedule_rules.momentum_config,
    runtime_rules.runner,
    hook_rules.checkpoint_config,
    log_rules.log_config,
    hook_rules.custom_hooks,
    evaluation_rules.evaluation,
    evaluation_rules.workflow,
    data_rules.data,
    hook_rules.priorities,
)
"""The translation rules, in the order in which they are applied."""

# First-generation keys for optimization, schedules, checkpoints and logs, which conflict with `optim_wrapper`.
_CONFLICTING = ("lr_config", "optimizer_config", "momentum_config", "checkpoint_config", "log_config")
# Settings and sections that also occur in second-generation configs, so they do not determine the generation.
_SHARED_SETTINGS = ("seed", "deterministic", "diff_seed", "device", "persistent_workers", "sync_bn")
_SHARED = (*_SHARED_SETTINGS, "model", "train_cfg", "test_cfg", "custom_hooks", "optimizer", "optimizers")
_OPTIMIZATION_KEYS = ("optim_wrapper", "param_scheduler")
SECOND_GENERATION_KEYS = (*leftover_rules.SECTIONS, "default_hooks")
_NOT_LEFTOVERS = (*_CONFLICTING, *_SHARED, *SECOND_GENERATION_KEYS, "visualizer")
_LEFTOVERS = tuple(key for rule in RULES for key in rule.keys if key not in _NOT_LEFTOVERS)

FIRST_GENERATION_KEYS = (*_CONFLICTING, *_LEFTOVERS, "optimizer", *_SHARED_SETTINGS)


def is_first_generation(cfg: AnyConfig) -> bool:
    """Checks whether a config is a first-generation config.

    If only one generation has all of its training sections, keys of the other one are leftovers.

    Raises:
        ConfigError: The config mixes optimization keys of both generations.
    """
    is_first, is_second = leftover_rules.complete_generations(cfg)
    if is_first != is_second:
        return is_first
    # A section that is None, or that overrides a missing base section, has no effect.
    conflicting = [
        key
        for key in _CONFLICTING
        if cfg.get(key) is not None and not (isinstance(cfg[key], Mapping) and "_delete_" in cfg[key])
    ]
    second = [key for key in _OPTIMIZATION_KEYS if key in cfg]
    if conflicting and second:
        raise ConfigError(
            "the config mixes optimization keys of both generations",
            key=conflicting[0],
            origin=origin_of(cfg, conflicting[0]),
            notes=[
                f"first generation: {', '.join(conflicting)}",
                f"second generation: {', '.join(key for key in SECOND_GENERATION_KEYS if key in cfg)}",
                "Keep one of the two. To rewrite a first-generation config, use `footplate migrate`.",
            ],
        )
    if second:
        return False
    if conflicting or _is_setting(cfg, "data") or _is_setting(cfg, "runner"):
        return True
    if any(key in cfg for key in SECOND_GENERATION_KEYS):
        return False
    return any(_is_setting(cfg, key) for key in (*_LEFTOVERS, "optimizer"))


def warn_about_leftovers(cfg: AnyConfig) -> None:
    """Warns about first-generation keys that have no effect in a second-generation config."""
    first = (*_CONFLICTING, *_LEFTOVERS, *_SHARED_SETTINGS)
    keys = [key for key in first if _is_setting(cfg, key) and key != "sync_bn"]  # which both generations have
    if keys:
        _logger.warning("First-generation keys in a second-generation config have no effect: %s", ", ".join(keys))


def _is_setting(cfg: AnyConfig, key: str) -> bool:
    """Checks whether a key is a setting rather than a variable used elsewhere in the config."""
    return key in cfg and not is_variable(cfg, key)


_Config = TypeVar("_Config", bound="Config | Mapping[str, Any]")


class Translation(NamedTuple):
    """The result of a translation.

    Attributes:
        sections: The second-generation config.
        notes: The notes about the first-generation keys.
    """

    sections: ConfigDict
    notes: tuple[Note, ...]


def translate(cfg: _Config) -> _Config:
    """Translates a first-generation config. Returns a second-generation config unchanged.

    Args:
        cfg: A config or a mapping, which is not modified.

    Raises:
        ConfigError: The config mixes optimization keys of both generations, a key cannot be translated, or two keys
            contradict each other.
        ArgumentError: The value of a key is invalid.

    Example:
        >>> cfg = translate(dict(optimizer=dict(type="SGD", lr=0.1), lr_config=dict(policy="fixed"), total_epochs=2))
        >>> cfg["train_cfg"], cfg["optim_wrapper"]["optimizer"]["lr"]
        ({'type': 'EpochBasedTrainLoop', 'max_epochs': 2}, 0.1)
    """
    if not is_first_generation(cfg):
        return cfg
    return _with_sections(cfg, translate_sections(cfg).sections)


def translate_for_run(cfg: Config) -> Config:
    """Translates a first-generation config, and logs a warning for each setting that is lost or must be checked.

    Returns a second-generation config unchanged, and logs a warning if it contains first-generation keys.

    Raises:
        ConfigError: The config mixes optimization keys of both generations, a key cannot be translated, or an
            unknown key resembles a known one.
        ArgumentError: The value of a key is invalid.
    """
    if not is_first_generation(cfg):
        warn_about_leftovers(cfg)
        return cfg
    from footplate.engine.control.process_setup import (
        pick_device,  # imports torch, which `footplate migrate` does not need
    )

    translation = translate_sections(cfg, device=pick_device().type)
    _logger.info("This first-generation config was translated. To save the result, use `footplate migrate`.")
    for note in translation.notes:
        name = note.key.rpartition(".")[2]
        if note.near and nearest(name, [note.near], is_typo=True):
            raise ConfigError(
                f"'{note.key}' is not a key of first-generation configs",
                key=note.key,
                origin=note.origin,
                suggestion=note.near,
            )
        if note.kind is not Kind.BECAME:
            _logger.warning("%s", note)
    return _with_sections(cfg, translation.sections)


def _with_sections(cfg: _Config, sections: ConfigDict) -> _Config:
    """Returns a copy of `cfg` with new sections. If `cfg` is a plain mapping, returns only the sections."""
    if isinstance(cfg, Config):
        translated = Config(sections, cfg.text, cfg.filename, cfg.env_variables)
        translated.__dict__["_untranslated"] = cfg
        return translated  # type: ignore[return-value]
    return sections  # type: ignore[return-value]


def translate_sections(cfg: AnyConfig, *, device: str | None = None) -> Translation:
    """Translates a first-generation config or part of one, and returns the result with notes.

    Args:
        cfg: The config, which is not modified.
        device: The device type of the run, such as "cuda", or None if unknown.

    Raises:
        ConfigError: A key cannot be translated, or two keys contradict each other.
        ArgumentError: The value of a key is invalid.
    """
    original = ConfigDict(cfg._cfg_dict if isinstance(cfg, Config) else cfg)
    draft = Draft(original, device=device)
    for rule in RULES:
        _apply(rule, draft)
    # Sections in the config take precedence over translated sections.
    sections = ConfigDict(draft.remaining)
    sections._origins |= {key: origin for key, origin in original._origins.items() if key in draft.remaining}
    for key, value in draft.translated.items():
        existing = sections.get(key)
        if isinstance(existing, ConfigDict) and isinstance(value, Mapping):
            merged = ConfigDict(value)
            merged.merge(existing)
            dict.__setitem__(sections, key, merged)
        elif existing is None:
            dict.__setitem__(sections, key, ConfigDict({key: value})[key])
    for path, source in draft.sources.items():
        origin = draft.origin(f"{source}.{path[-1]}") if source else None  # some keys have the same name in both
        if draft.remaining.get(path[0]) is not None or origin is None:
            continue  # the origins of sections in the config are known
        key_origin, found = KeyOrigin(*origin), sections
        for part in path:
            if isinstance(found, list):
                found = found[int(part)]
            else:
                found._origins.setdefault(part, key_origin)
                found = found[part]
        if isinstance(found, ConfigDict):
            found._origins.setdefault(None, key_origin)
    return Translation(sections, tuple(draft.notes))


def _apply(rule: Rule, draft: Draft) -> None:
    """Applies a rule if it matches the draft config. Errors point to the line of the first-generation key."""
    present = [key for key in rule.keys if key in draft.remaining]
    if rule.keys and not present:
        return
    draft.source = next((key for key in present if draft.remaining[key] is not None), present[0] if present else "")
    try:
        with located(draft.original):
            rule.apply(draft)
    except FootplateError:
        raise
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        # A value has the wrong type, usually a number or a string instead of a dict.
        raise ConfigError(
            f"the first-generation key '{draft.source}' cannot be translated: {describe_exception(error)}",
            key=draft.source,
            found=draft.original.get(draft.source),
            origin=draft.origin(draft.source),
            shows_cause=True,
        ) from error
    for key in present:
        if key not in draft.remaining and draft.original[key] is not None:
            draft.note_result(key)
