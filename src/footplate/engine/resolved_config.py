"""Fills in the settings of a run that derive from others."""

import copy
import os
from collections.abc import Mapping
from typing import Any

from torch import nn

from footplate.config import Config, as_plain
from footplate.config.formats import SCALARS, plain_scalar
from footplate.engine.components import counts_epochs
from footplate.engine.model_setup import describe_builder
from footplate.engine.runner_arguments import LENGTHS, PYTHON_ARGUMENTS
from footplate.engine.sections import RUNNER_KEYS, check_kinds
from footplate.error_context import with_origins
from footplate.errors import ArgumentError, FootplateError
from footplate.evaluation.evaluator import returned_numbers
from footplate.models import FUNCTIONS, is_plain
from footplate.registry import set_default_scope

_ALL_BUT_RATES = r"(?!(.*\.)?(base_)?lr$)"  # like losses, the values that `training_step` logs are averaged
_SAVE_INTERVAL, _KEPT_CHECKPOINTS = 1000, 2  # in iteration-based runs of plain modules


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
        if sections["hparams"] is not None:
            if self.has_cfg:
                notes = ["A config records its own settings. Add variables to it instead."]
                raise ArgumentError("'hparams' cannot be combined with a config", key="hparams", notes=notes)
            if not isinstance(sections["hparams"], Mapping):
                notes = ["For arguments parsed by argparse, pass vars(args)."]
                raise ArgumentError("'hparams' must be a dict", key="hparams", found=sections["hparams"], notes=notes)
            sections["hparams"] = _plain_hparams(sections["hparams"])
        set_default_scope(sections["default_scope"])
        self.sections = _complete_sections(sections, has_cfg=self.has_cfg)
        self.unrecorded = ""
        cfg = cfg or self._cfg_of_builder(sections["model"])
        # Copied, because some user-defined constructors modify the dicts that they are built from.
        self.cfg: Any = Config(cfg, cfg.text, cfg.filename, cfg.env_variables) if isinstance(cfg, Config) else cfg
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


def _plain_hparams(value: Any, key: str = "hparams") -> Any:
    """Returns hyperparameters as values that a config can contain. Paths become strings, and tuples become lists.

    Raises:
        ArgumentError: A value has another type.
    """
    if isinstance(value, Mapping):
        return {name: _plain_hparams(item, f"{key}.{name}") for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain_hparams(item, key) for item in value]
    value = os.fspath(value) if isinstance(value, os.PathLike) else plain_scalar(value)
    if value is not None and type(value) not in SCALARS:
        raise ArgumentError(
            "'hparams' may contain only numbers, strings, booleans, None, lists and dicts",
            key=key,
            found=value,
            notes=["Convert the value, for example with str(value), or leave it out."],
        )
    return value


def _complete_sections(arguments: Mapping[str, Any], *, has_cfg: bool) -> dict[str, Any]:
    """Returns the arguments of a Runner with derived values filled in.

    `max_epochs` or `max_iters` replaces the value in `train_cfg`. For a plain module, validation and test need only a
    dataloader: without metrics, they report the loss, or the numbers that `validation_step` returns. For a plain
    module, the preflight is also enabled by default, log lines average all values except learning rates, and a run with
    neither a config nor checkpoint settings saves after each epoch or validation interval.

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
    evaluated = [mode for mode in ("val", "test") if sections[f"{mode}_dataloader"] is not None]
    if trains_plain_module or is_from_python:
        for mode in evaluated:
            if sections[f"{mode}_cfg"] is None:
                sections[f"{mode}_cfg"] = {}
    if not trains_plain_module:
        return sections
    for mode in evaluated:
        evaluator, settings = f"{mode}_evaluator", sections[f"{mode}_cfg"]
        if sections[evaluator] is None:
            sections[evaluator] = copy.deepcopy(sections["val_evaluator"])
        if sections[evaluator] is None:
            sections[evaluator] = [] if _reports_loss(sections, mode) else [returned_numbers]
        if isinstance(settings, Mapping) and "type" not in settings:
            sections[f"{mode}_cfg"] = with_origins({"loss": _reports_loss(sections, mode), **settings}, settings)
    if sections["preflight"] is None:
        sections["preflight"] = True
    sections["default_hooks"] = _with_checkpoints(sections, has_defaults=is_from_python)
    processor = sections["log_processor"] or {}
    if isinstance(processor, Mapping):
        sections["log_processor"] = with_origins({"mean_pattern": _ALL_BUT_RATES, **processor}, processor)
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
    hooks = sections["default_hooks"] or {}
    train_cfg = sections["train_cfg"]
    by_epoch = counts_epochs(train_cfg)
    checkpoint = hooks.get("checkpoint", {})
    if not isinstance(checkpoint, Mapping) or "type" in checkpoint:
        return hooks
    defaults: dict[str, Any] = {"by_epoch": by_epoch}
    if has_defaults and checkpoint.keys().isdisjoint(("interval", "by_epoch")):
        settings = train_cfg if isinstance(train_cfg, Mapping) else {}
        interval = 1 if by_epoch else settings.get("val_interval", _SAVE_INTERVAL)
        defaults |= {"interval": interval, "max_keep_ckpts": _KEPT_CHECKPOINTS}
    checkpoint = with_origins({**defaults, **checkpoint}, checkpoint)
    return with_origins({**hooks, "checkpoint": checkpoint}, hooks)
