"""Checks a `paramwise_cfg`, and warns about entries without effect."""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from footplate.checks import check_flag
from footplate.error_context import origin_of
from footplate.errors import ArgumentError
from footplate.messages import nearest
from footplate.optim.constructors.paramwise_rules import ParamwiseRules

_logger = logging.getLogger("footplate.optim")

DECAY_MULTIPLIERS = ("norm_decay_mult", "bias_decay_mult", "dwconv_decay_mult", "flat_decay_mult")
LR_MULTIPLIERS = ("bias_lr_mult", "dcn_offset_lr_mult")
_MULTIPLIERS = ("lr_mult", "decay_mult")
_FIELDS = ("lr", "weight_decay", "momentum")
_KNOWN = (*DECAY_MULTIPLIERS, *LR_MULTIPLIERS, "custom_keys", "bypass_duplicate")


def check_paramwise(cfg: Any) -> None:
    """Checks the types and ranges of a `paramwise_cfg`.

    Raises:
        ArgumentError: It is not a dict, or an entry has another type or is out of range.
    """
    if not isinstance(cfg, Mapping):
        raise ArgumentError("paramwise_cfg must be a dict", key="paramwise_cfg", found=cfg)
    for key in (*DECAY_MULTIPLIERS, *LR_MULTIPLIERS):
        _check_number(cfg, key)
    if "bypass_duplicate" in cfg:
        check_flag("bypass_duplicate", cfg["bypass_duplicate"], key="paramwise_cfg.bypass_duplicate")
    custom_keys = cfg.get("custom_keys") or {}
    if not isinstance(custom_keys, Mapping):
        _refuse("custom_keys must be a dict", cfg, "custom_keys")
    for key, value in custom_keys.items():
        if not isinstance(value, Mapping):
            _refuse("the settings of a custom key must be a dict", custom_keys, key, within="custom_keys.")
        for name in (*_MULTIPLIERS, *_FIELDS):
            _check_number(value, name, within=f"custom_keys.{key}.")


def _check_number(cfg: Mapping[str, Any], key: str, *, within: str = "") -> None:
    """Raises an error unless the entry is missing, None, or a finite number of at least 0."""
    value = cfg.get(key)
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        _refuse(f'"{key}" must be a finite number of at least 0', cfg, key, within=within)


def _refuse(message: str, cfg: Mapping[str, Any], key: str, *, within: str = "") -> None:
    path = f"paramwise_cfg.{within}{key}"
    raise ArgumentError(message, key=path, found=cfg[key], origin=origin_of(cfg, key))


def warn_of_unknown_keys(cfg: Mapping[str, Any], known: Sequence[str] = _KNOWN) -> None:
    """Warns about unknown keys of `paramwise_cfg`.

    Args:
        cfg: The `paramwise_cfg`.
        known: The known keys; by default those of the default constructor.
    """
    for key in cfg:
        if key not in known:
            _warn(f'paramwise_cfg has the unknown key "{key}"', nearest(key, known))
    for key, settings in (cfg.get("custom_keys") or {}).items():
        for name in settings:
            # Other names may be fields of the parameter groups.
            if name not in _MULTIPLIERS and (near := nearest(name, _MULTIPLIERS)):
                _warn(f'the custom key "{key}" of paramwise_cfg has the unknown key "{name}"', near)


def warn_of_unmatched_keys(rules: ParamwiseRules, model: nn.Module) -> None:
    """Warns about custom keys that match no parameter."""
    unmatched = [key for key in rules.custom_keys if key not in rules.matched_keys]
    if not unmatched:
        return
    names = sorted({part for name, _ in model.named_parameters() for part in [name, *name.split(".")]})
    for key in unmatched:
        _warn(f'the custom key "{key}" of paramwise_cfg matches no parameter', nearest(key.strip("."), names))


def warn_of_missing_fields(rules: ParamwiseRules) -> None:
    """Warns about multipliers of a field that the optimizer does not have."""
    custom = [set(settings) for settings in rules.custom_keys.values()]
    for field, base, keys in (
        ("weight_decay", rules.base_wd, (*DECAY_MULTIPLIERS, "decay_mult")),
        ("lr", rules.base_lr, (*LR_MULTIPLIERS, "lr_mult")),
    ):
        used = [key for key in keys if rules.cfg.get(key) is not None or any(key in names for names in custom)]
        if base is None and used:
            keys_text = ", ".join(f'"{key}"' for key in used)
            _warn(f'{keys_text} of paramwise_cfg has no effect: the optimizer has no "{field}"')


def _warn(message: str, suggestion: str | None = None) -> None:
    _logger.warning(message + (f"; did you mean '{suggestion}'?" if suggestion else ""))
