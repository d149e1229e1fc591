"""Computes the settings of each parameter from `paramwise_cfg`, and checks the entries of `paramwise_cfg`."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from footplate.checks import check_flag, check_number
from footplate.error_context import at_key, located, origin_of
from footplate.errors import ArgumentError
from footplate.messages import nearest
from footplate.module_selection import BATCH_NORMS, INSTANCE_NORMS

_logger = logging.getLogger("footplate.optim")
_NORMS = (*BATCH_NORMS, *INSTANCE_NORMS, nn.GroupNorm, nn.LayerNorm)
_DEFORMABLE = {"DeformConv2d", "ModulatedDeformConv2d"}
DECAY_MULTIPLIERS = ("norm_decay_mult", "bias_decay_mult", "dwconv_decay_mult", "flat_decay_mult")
LR_MULTIPLIERS = ("bias_lr_mult", "dcn_offset_lr_mult")
_MULTIPLIERS = ("lr_mult", "decay_mult")
_FIELDS = ("lr", "weight_decay", "momentum")
PARAMWISE_KEYS = (*DECAY_MULTIPLIERS, *LR_MULTIPLIERS, "custom_keys", "bypass_duplicate")


@dataclasses.dataclass(frozen=True)
class ParamLocation:
    """A parameter's position in the model."""

    name: str
    """The name of the parameter in its module."""
    prefix: str
    """The path of the module, empty at the top level."""
    module: nn.Module
    ndim: int
    in_deformable: bool = False
    """Whether the parent of the module, or the module passed to `add_params`, is a deformable convolution."""

    @property
    def path(self) -> str:
        """The path of the parameter, in which custom keys are searched for. It begins with a dot at the top level."""
        return f"{self.prefix}.{self.name}"

    @property
    def is_norm(self) -> bool:
        """Whether the parameter belongs to a normalization layer."""
        return isinstance(self.module, _NORMS)

    @property
    def is_depthwise(self) -> bool:
        """Whether the parameter belongs to a depthwise 2-d convolution."""
        return isinstance(self.module, nn.Conv2d) and self.module.in_channels == self.module.groups

    @property
    def is_offset(self) -> bool:
        """Whether the parameter belongs to the convolution that computes the offsets of a deformable convolution."""
        return self.in_deformable and "conv_offset" in self.prefix and isinstance(self.module, nn.Conv2d)


def is_deformable(module: nn.Module) -> bool:
    """Checks whether `module` is a deformable convolution, judging by the names of its class and base classes."""
    return any(base.__name__ in _DEFORMABLE for base in type(module).__mro__)


class ParamwiseRules:
    """Computes the settings of one parameter from `paramwise_cfg`.

    If the path of the parameter contains a custom key, only the settings of that key apply. If several keys match, the
    longest one is used. Of equally long keys, the first one in alphabetical order is used.

    Args:
        paramwise_cfg: Multipliers for kinds of parameters, and `custom_keys`.
        base_lr: The learning rate to multiply, or None if the optimizer has none.
        base_wd: The weight decay to multiply, or None if the optimizer has none.
    """

    def __init__(self, paramwise_cfg: Mapping[str, Any], base_lr: float | None, base_wd: float | None) -> None:
        self.cfg = paramwise_cfg
        self.base_lr = base_lr
        self.base_wd = base_wd
        self.custom_keys: Mapping[str, Mapping[str, Any]] = paramwise_cfg.get("custom_keys") or {}
        self._sorted_keys = sorted(sorted(self.custom_keys), key=len, reverse=True)
        self.matched_keys: set[str] = set()
        self.was_used = False

    def settings(self, location: ParamLocation) -> dict[str, Any]:
        """Returns the settings of a parameter that differ from those of the optimizer."""
        self.was_used = True
        key = self._custom_key(location)
        if key is None:
            return self._scaled(self._multiplier(self.lr_rule(location)), self._multiplier(self.decay_rule(location)))
        self.matched_keys.update(each for each in self._sorted_keys if each in location.path)
        custom = self.custom_keys[key]
        other = {name: value for name, value in custom.items() if name not in ("lr_mult", "decay_mult")}
        return {**self._scaled(custom.get("lr_mult"), custom.get("decay_mult")), **other}

    def reasons(self, location: ParamLocation) -> tuple[str, ...]:
        """Returns the keys of `paramwise_cfg` that apply to a parameter."""
        key = self._custom_key(location)
        if key is not None:
            return (f"custom_keys.{key}",)
        rules = (self.lr_rule(location), self.decay_rule(location))
        return tuple(rule for rule in rules if rule is not None and self._multiplier(rule) is not None)

    def lr_rule(self, location: ParamLocation) -> str | None:
        """Returns the key of the learning rate multiplier for a parameter without a custom key."""
        if location.is_offset and self.cfg.get("dcn_offset_lr_mult") is not None:
            return "dcn_offset_lr_mult"
        if location.name == "bias" and not (location.is_norm or location.in_deformable):
            return "bias_lr_mult"
        return None

    def decay_rule(self, location: ParamLocation) -> str | None:
        """Returns the key of the weight decay multiplier for a parameter without a custom key.

        This is the first key that is set and applies to the parameter.
        """
        applies = {
            "norm_decay_mult": location.is_norm,
            "bias_decay_mult": location.name == "bias" and not location.in_deformable,
            "dwconv_decay_mult": location.is_depthwise,
            "flat_decay_mult": location.ndim == 1 and not location.in_deformable,
        }
        return next((key for key, does in applies.items() if does and self.cfg.get(key) is not None), None)

    def _custom_key(self, location: ParamLocation) -> str | None:
        return next((key for key in self._sorted_keys if key in location.path), None)

    def _multiplier(self, rule: str | None) -> float | None:
        value: float | None = None if rule is None else self.cfg.get(rule)
        return value

    def _scaled(self, lr_mult: float | None, decay_mult: float | None) -> dict[str, Any]:
        settings = {}
        if lr_mult is not None and self.base_lr is not None:
            settings["lr"] = self.base_lr * lr_mult
        if decay_mult is not None and self.base_wd is not None:
            settings["weight_decay"] = self.base_wd * decay_mult
        return settings


def check_paramwise(cfg: Any) -> None:
    """Checks the types and ranges of a `paramwise_cfg`.

    Raises:
        ArgumentError: `paramwise_cfg` is not a dict, or an entry has the wrong type or is out of range.
    """
    if not isinstance(cfg, Mapping):
        raise ArgumentError("paramwise_cfg must be a dict", key="paramwise_cfg", found=cfg)
    with at_key("paramwise_cfg"), located(cfg):
        for key in (*DECAY_MULTIPLIERS, *LR_MULTIPLIERS):
            check_number(key, cfg.get(key), least=0, optional=True)
        if "bypass_duplicate" in cfg:
            check_flag("bypass_duplicate", cfg["bypass_duplicate"])
        custom_keys = cfg.get("custom_keys") or {}
        if not isinstance(custom_keys, Mapping):
            raise ArgumentError("custom_keys must be a dict", key="custom_keys", found=custom_keys)
        with at_key("custom_keys"):
            for key, settings in custom_keys.items():
                if not isinstance(key, str):
                    raise ArgumentError("a custom key must be a string", found=key, origin=origin_of(custom_keys, key))
                if not isinstance(settings, Mapping):
                    raise ArgumentError(
                        "the settings of a custom key must be a dict",
                        key=key,
                        found=settings,
                        origin=origin_of(custom_keys, key),
                    )
                with at_key(key), located(settings):
                    for name in (*_MULTIPLIERS, *_FIELDS):
                        check_number(name, settings.get(name), least=0, optional=True)
                    if settings.get("use_muon") is not None:
                        check_flag("use_muon", settings["use_muon"])


def warn_of_unknown_keys(cfg: Mapping[str, Any], known: Sequence[str] = PARAMWISE_KEYS) -> None:
    """Warns about unknown keys of `paramwise_cfg`. By default, the known keys are those of the default constructor."""
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
    """Warns about multipliers for fields that the optimizer does not have."""
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
