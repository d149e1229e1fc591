"""What is wrong with a `paramwise_cfg`, or has no effect."""

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from footplate.checks import check_flag
from footplate.error_context import origin_of
from footplate.errors import ArgumentError
from footplate.messages import nearest
from footplate.optim.constructors.rules import Rules

_logger = logging.getLogger("footplate.optim")

DECAY_MULTIPLIERS = ("norm_decay_mult", "bias_decay_mult", "dwconv_decay_mult", "flat_decay_mult")
LR_MULTIPLIERS = ("bias_lr_mult", "dcn_offset_lr_mult")
_MULTIPLIERS = ("lr_mult", "decay_mult")
_FIELDS = ("lr", "weight_decay", "momentum")
_KNOWN = (*DECAY_MULTIPLIERS, *LR_MULTIPLIERS, "custom_keys", "bypass_duplicate")


def check_paramwise(cfg: Any) -> None:
    """Refuses a `paramwise_cfg` that cannot be read.

    Raises:
        ArgumentError: It is no dict, or an entry in it is not of the right type; the error names the key.
    """
    if not isinstance(cfg, Mapping):
        raise ArgumentError("paramwise_cfg must be a dict", key="paramwise_cfg", found=cfg)
    for key in (*DECAY_MULTIPLIERS, *LR_MULTIPLIERS):
        _check_amount(cfg, key)
    if "bypass_duplicate" in cfg:
        check_flag("bypass_duplicate", cfg["bypass_duplicate"], key="paramwise_cfg.bypass_duplicate")
    custom_keys = cfg.get("custom_keys") or {}
    if not isinstance(custom_keys, Mapping):
        _refuse("custom_keys must be a dict", cfg, "custom_keys")
    for key, value in custom_keys.items():
        if not isinstance(value, Mapping):
            _refuse("the settings of a custom key must be a dict", custom_keys, key, within="custom_keys.")
        for name in (*_MULTIPLIERS, *_FIELDS):
            _check_amount(value, name, within=f"custom_keys.{key}.")


def _check_amount(cfg: Mapping[str, Any], key: str, *, within: str = "") -> None:
    """Refuses a multiplier or a setting of a group that is not a finite number of at least 0."""
    value = cfg.get(key)
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        _refuse(f'"{key}" must be a finite number of at least 0', cfg, key, within=within)


def _refuse(message: str, cfg: Mapping[str, Any], key: str, *, within: str = "") -> None:
    path = f"paramwise_cfg.{within}{key}"
    raise ArgumentError(message, key=path, found=cfg[key], origin=origin_of(cfg, key))


def warn_of_unknown_keys(cfg: Mapping[str, Any], known: Sequence[str] = _KNOWN) -> None:
    """Names keys of `paramwise_cfg` that a constructor, by default the default one, does not know."""
    for key in cfg:
        if key not in known:
            _warn(f'paramwise_cfg has an entry "{key}" that is not known', nearest(key, known))
    for key, settings in (cfg.get("custom_keys") or {}).items():
        for name in settings:
            # Any other word may be a field of the optimizer's groups.
            if name not in _MULTIPLIERS and (near := nearest(name, _MULTIPLIERS)):
                _warn(f'the custom key "{key}" of paramwise_cfg has an entry "{name}" that is not known', near)


def warn_of_unmet_keys(rules: Rules, model: nn.Module) -> None:
    """Names custom keys that matched no parameter, with the nearest name in the model."""
    unmet = [key for key in rules.custom_keys if key not in rules.met]
    if not unmet:
        return
    names = sorted({part for name, _ in model.named_parameters() for part in [name, *name.split(".")]})
    for key in unmet:
        _warn(f'the custom key "{key}" of paramwise_cfg matches no parameter', nearest(key.strip("."), names))


def warn_of_missing_fields(rules: Rules) -> None:
    """Names multipliers of a field that the optimizer does not have."""
    custom = [set(settings) for settings in rules.custom_keys.values()]
    for field, base, keys in (
        ("weight_decay", rules.base_wd, (*DECAY_MULTIPLIERS, "decay_mult")),
        ("lr", rules.base_lr, (*LR_MULTIPLIERS, "lr_mult")),
    ):
        used = [key for key in keys if rules.cfg.get(key) is not None or any(key in names for names in custom)]
        if base is None and used:
            _warn(f'{_listed(used)} of paramwise_cfg has no effect: the optimizer has no "{field}"')


def _listed(words: Iterable[str]) -> str:
    return ", ".join(f'"{word}"' for word in words)


def _warn(message: str, suggestion: str | None = None) -> None:
    _logger.warning(message + (f"; did you mean '{suggestion}'?" if suggestion else ""))
