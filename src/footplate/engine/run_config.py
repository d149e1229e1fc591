"""Translates, checks and completes configs, and turns them into Runner arguments."""

import copy
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

from torch import nn

from footplate.config import Config, as_plain, check_top_level_keys, find_unused_changes
from footplate.config.config_dict import is_variable
from footplate.config.key_paths import merge_options
from footplate.engine.components import build_log_processor, counts_epochs
from footplate.engine.hook_list import HookList, build_hooks
from footplate.engine.model_setup import describe_builder
from footplate.engine.sections import READ_KEYS, RUNNER_KEYS, check_kinds, check_sections
from footplate.error_context import located, origin_at, with_origins
from footplate.errors import ArgumentError, FootplateError, Origin
from footplate.evaluation.evaluator import returned_numbers
from footplate.extensions import extensions
from footplate.messages import nearest
from footplate.models import FUNCTIONS, is_plain
from footplate.optim.schedules import collect_steps
from footplate.registry import RUNNERS, set_default_scope

_logger = logging.getLogger("footplate.engine")
LENGTHS = ("max_epochs", "max_iters")
_SAVE_INTERVAL, _KEPT_CHECKPOINTS = 1000, 2  # in iteration-based runs of plain modules
PYTHON_ARGUMENTS = (*LENGTHS, *FUNCTIONS)
"""Runner arguments that are not config keys."""
ELSEWHERE = {
    "accumulate_grad_batches": "optim_wrapper=dict(optimizer=..., accumulative_counts=...)",
    "accelerator": "the environment variable CUDA_VISIBLE_DEVICES; an empty value selects the CPU",
    "callbacks": "custom_hooks=[...], or call runner.on(event, function)",
    "check_val_every_n_epoch": "train_cfg=dict(val_interval=...)",
    "ckpt_path": "load_from=..., or resume=True to continue the run in work_dir",
    "criterion": "loss=...",
    "default_root_dir": "work_dir=...",
    "device": "the environment variable CUDA_VISIBLE_DEVICES; an empty value selects the CPU",
    "devices": "the number of processes: footplate run --nproc 2 SCRIPT",
    "enable_checkpointing": "default_hooks=dict(checkpoint=None)",
    "epochs": "max_epochs=...",
    "gradient_clip_val": "optim_wrapper=dict(optimizer=..., clip_grad=dict(max_norm=...))",
    "hooks": "custom_hooks=[...]",
    "limit_train_batches": "max_iters=...",
    "log_every_n_steps": "default_hooks=dict(logger=dict(interval=...))",
    "logger": "visualizer=dict(vis_backends=[...])",
    "max_steps": "max_iters=...",
    "metrics": "val_evaluator={'name': ...}",
    "num_train_epochs": "max_epochs=...",
    "optimizer": "optim_wrapper=...",
    "optimizers": "optim_wrapper={'name': ...}",
    "precision": "optim_wrapper=dict(type='AmpOptimWrapper', optimizer=...)",
    "save_best": "default_hooks=dict(checkpoint=dict(save_best=...))",
    "scheduler": "param_scheduler=...",
    "seed": "randomness=dict(seed=...)",
    "val_check_interval": "train_cfg=dict(val_interval=...), in epochs, or in iterations if max_iters is set",
    "val_interval": "train_cfg=dict(val_interval=...)",
    "vis_backends": "visualizer=dict(vis_backends=[...])",
}
"""Maps argument names from other engines to their footplate equivalents, for error messages."""
RESUME_ARGUMENTS = ("resume", "load_from", "resume_settings")
"""Arguments that a resumed run leaves out of its recorded config, so that the config still starts the original run."""


class ResolvedConfig:
    """The settings of a run, with derived values filled in.

    Args:
        arguments: The Runner's arguments, keyed by name. They may be objects or config dicts.

    Attributes:
        cfg: The complete config that the arguments come from. For a run built from objects, it contains only the model,
            or nothing if another process cannot rebuild the model.
        has_cfg: Whether the arguments come from a config.
        sections: All other arguments, keyed by name. Unset arguments are None.
        unrecorded: Why a model built by a function cannot be recorded in the config, or "".

    Raises:
        ArgumentError: A section has a value of the wrong type, or only some sections of a phase are set.
    """

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        sections = {**dict.fromkeys((*RUNNER_KEYS, *PYTHON_ARGUMENTS)), **arguments}
        cfg = sections.pop("cfg", None)
        self.has_cfg = cfg is not None
        set_default_scope(sections["default_scope"])
        self.sections = complete_sections(sections, has_cfg=self.has_cfg)
        self.unrecorded = ""
        cfg = cfg or self._cfg_of_builder(sections["model"])
        # Copied, because some user-defined constructors modify the dicts that they are built from.
        self.cfg: Any = _copy(cfg) if isinstance(cfg, Config) else cfg
        check_kinds(self.sections)

    def recorded(self, *, is_plain: bool) -> Config:
        """Returns the config to record. Without a config, returns the arguments, with objects converted to text.

        A function that builds a plain module is recorded as a model config if other processes can import it.
        """
        if self.has_cfg:
            return self.cfg  # type: ignore[no-any-return]
        arguments = {name: value for name, value in self.sections.items() if value is not None and value is not False}
        return Config(as_plain({**arguments, **(self.cfg if is_plain else {})}))

    def _cfg_of_builder(self, model: Any) -> Config:
        """Returns a config for a model built by a function, or an empty config if that is impossible."""
        if callable(model) and not isinstance(model, nn.Module):
            try:
                return Config({"model": describe_builder(model)})
            except FootplateError as error:
                self.unrecorded = str(error)
        return Config()


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
        cfg = _copy(cfg)
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


def _copy(cfg: Config) -> Config:
    return Config(cfg, cfg.text, cfg.filename, cfg.env_variables)


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


def warn_about_variables(cfg: Config) -> None:
    """Warns about top-level keys that have no effect, and about variables that are changed after their last use."""
    for change in find_unused_changes(cfg, READ_KEYS):
        _logger.warning("%s", change)
    ignored = {key: advice for extension in extensions() for key, advice in extension.ignored_keys.items()}
    reasons = {
        key: f" in footplate. {advice}" for key, advice in ignored.items() if cfg.get(key) and not is_variable(cfg, key)
    }
    top, model = cfg.get("data_preprocessor"), cfg.get("model")
    own = model.get("data_preprocessor") if isinstance(model, Mapping) else None
    if top is not None and own is not None and _without_scope(top) != _without_scope(own):
        reasons["data_preprocessor"] = ", because the model has its own. Set model.data_preprocessor."
    _warn_about_keys(cfg, reasons)


def warn_about_idle_settings(cfg: Any, hooks: HookList, schedules: Any = ()) -> None:
    """Warns about settings that need a metric if the run has no validation.

    Args:
        cfg: The config, used to report where each setting is defined.
        hooks: The run's hooks.
        schedules: The run's schedules.
    """
    idle = []
    for hook in hooks:
        try:
            hook.check_metrics(())
        except FootplateError as error:
            idle.append(f"{hooks.key_of(hook)}.{error.key}")
    if collect_steps(schedules).by_metrics:
        idle.append("param_scheduler")
    _warn_about_keys(cfg, dict.fromkeys(idle, ": it needs a metric, but the run has no validation"))


def _warn_about_keys(cfg: Any, reasons: Mapping[str, str]) -> None:
    for key, reason in reasons.items():
        origin = origin_at(cfg, key)
        _logger.warning("%s%s has no effect%s", f"{origin}: " if origin else "", key, reason)


def _without_scope(section: Any) -> Any:
    return (
        {key: value for key, value in section.items() if key != "_scope_"} if isinstance(section, Mapping) else section
    )


def complete_sections(arguments: Mapping[str, Any], *, has_cfg: bool) -> dict[str, Any]:
    """Returns the arguments of a Runner with derived values filled in.

    `max_epochs` or `max_iters` replaces the value in `train_cfg`. For a plain module, validation and test need only a
    dataloader: without metrics, they report the loss, or the numbers that `validation_step` returns. For a plain
    module, the preflight is also enabled by default, and a run with neither a config nor checkpoint settings saves
    after each epoch or validation interval.

    Args:
        arguments: The Runner's arguments, keyed by name.
        has_cfg: Whether the arguments come from a config.

    Raises:
        ArgumentError: Two arguments conflict.
    """
    sections = {**arguments, "train_cfg": _with_length(arguments)}
    if isinstance(sections["work_dir"], os.PathLike):
        sections["work_dir"] = os.fspath(sections["work_dir"])
    is_from_python = callable(sections["model"]) and not has_cfg
    trains_plain_module = is_plain(sections["model"]) or any(sections[name] is not None for name in FUNCTIONS)
    for mode in ("val", "test"):
        if sections[f"{mode}_dataloader"] is None:
            continue
        if trains_plain_module and sections[f"{mode}_evaluator"] is None:
            metrics = copy.deepcopy(sections["val_evaluator"])
            if metrics is None:
                metrics = [] if _reports_loss(sections, mode) else [returned_numbers]
            sections[f"{mode}_evaluator"] = metrics
        if (trains_plain_module or is_from_python) and sections[f"{mode}_cfg"] is None:
            sections[f"{mode}_cfg"] = {"loss": True} if trains_plain_module and _reports_loss(sections, mode) else {}
    if trains_plain_module:
        if sections["preflight"] is None:
            sections["preflight"] = True
        sections["default_hooks"] = _with_checkpoints(sections, has_defaults=is_from_python)
    return sections


def _reports_loss(sections: Mapping[str, Any], mode: str) -> bool:
    """Checks whether a plain module's validation or test run reports the loss. The first matching row applies.

    | arguments that are set | reports the loss |
    |---|---|
    | `loss` | yes |
    | metrics | no |
    | `training_step` and `validation_step` | no: the loss of the predictions is unknown |
    | others | yes: there is nothing else to report |
    """
    if sections["loss"] is not None:
        return True
    has_own_steps = sections["training_step"] is not None and sections["validation_step"] is not None
    return not (sections[f"{mode}_evaluator"] or has_own_steps)


def _with_length(sections: Mapping[str, Any]) -> Any:
    """Returns `train_cfg` updated with `max_epochs` or `max_iters`."""
    train_cfg = sections["train_cfg"]
    lengths = {name: sections[name] for name in LENGTHS if sections[name] is not None}
    if not lengths:
        return train_cfg
    name, length = list(lengths.items())[-1]
    if not isinstance(train_cfg, (Mapping, type(None))):
        raise ArgumentError(f"'{name}' has no effect if 'train_cfg' is a loop object", key=name, found=length)
    merged = {**(train_cfg or {}), **lengths}
    if merged.keys() >= set(LENGTHS):
        raise ArgumentError("'max_epochs' and 'max_iters' cannot both be set", key=name, found=length)
    return with_origins(merged, train_cfg)


def _with_checkpoints(sections: Mapping[str, Any], *, has_defaults: bool) -> Any:
    """Returns `default_hooks` with default checkpoint settings for a plain module."""
    hooks, train_cfg = sections["default_hooks"] or {}, sections["train_cfg"]
    by_epoch, checkpoint = counts_epochs(train_cfg), hooks.get("checkpoint", {})
    if not isinstance(checkpoint, Mapping) or "type" in checkpoint:
        return hooks
    defaults: dict[str, Any] = {"by_epoch": by_epoch}
    if has_defaults and checkpoint.keys().isdisjoint(("interval", "by_epoch")):
        settings = train_cfg if isinstance(train_cfg, Mapping) else {}
        interval = 1 if by_epoch else settings.get("val_interval", _SAVE_INTERVAL)
        defaults |= {"interval": interval, "max_keep_ckpts": _KEPT_CHECKPOINTS}
    checkpoint = with_origins({**defaults, **checkpoint}, checkpoint)
    return with_origins({**hooks, "checkpoint": checkpoint}, hooks)
