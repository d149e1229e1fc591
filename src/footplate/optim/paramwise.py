"""Checks `paramwise_cfg`, and computes the settings of each parameter from it."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import nn

from footplate.checks import check_flag, check_number
from footplate.error_context import NOT_USER_CODE, at_key, located, location_prefix, origin_of
from footplate.errors import ArgumentError, Origin
from footplate.messages import nearest
from footplate.module_selection import BATCH_NORMS, INSTANCE_NORMS

_logger = logging.getLogger("footplate.optim")
_NORMS = (*BATCH_NORMS, *INSTANCE_NORMS, nn.GroupNorm, nn.LayerNorm)
_DEFORMABLE = {"DeformConv2d", "ModulatedDeformConv2d"}
_DECAY_MULTIPLIERS = ("norm_decay_mult", "bias_decay_mult", "dwconv_decay_mult", "flat_decay_mult")
_LR_MULTIPLIERS = ("bias_lr_mult", "dcn_offset_lr_mult")
_CUSTOM_MULTIPLIERS = ("lr_mult", "decay_mult")
PARAMWISE_KEYS = (*_DECAY_MULTIPLIERS, *_LR_MULTIPLIERS, "custom_keys", "bypass_duplicate")


class ParamLocation(NamedTuple):
    """The location of a parameter in the model."""

    name: str
    """The name of the parameter in its module."""
    prefix: str
    """The path of the module. Empty for the model itself."""
    module: nn.Module
    ndim: int
    in_deformable: bool = False
    """Whether the module's parent is a deformable convolution."""

    @property
    def path(self) -> str:
        """The path of the parameter, which custom keys are matched against. Top-level parameters have a leading dot."""
        return f"{self.prefix}.{self.name}"

    @property
    def is_norm(self) -> bool:
        """Whether the parameter belongs to a batch, instance, group or layer normalization layer."""
        return isinstance(self.module, _NORMS)

    @property
    def is_depthwise(self) -> bool:
        """Whether the parameter belongs to a depthwise 2-d convolution."""
        return isinstance(self.module, nn.Conv2d) and self.module.in_channels == self.module.groups

    @property
    def is_offset(self) -> bool:
        """Whether the parameter belongs to the offset convolution inside a deformable convolution."""
        return self.in_deformable and "conv_offset" in self.prefix and isinstance(self.module, nn.Conv2d)


def is_deformable(module: nn.Module) -> bool:
    """Checks whether `module` is a deformable convolution, based on the names of its class and base classes."""
    return any(base.__name__ in _DEFORMABLE for base in type(module).__mro__)


class ParamwiseRules(NamedTuple):
    """Computes the settings of one parameter from `paramwise_cfg`.

    A custom key matches if it occurs in the parameter's path. Only the settings of the longest matching key apply. Ties
    go to the first key in alphabetical order.

    Attributes:
        cfg: The `paramwise_cfg`: multipliers for different kinds of parameters, and `custom_keys`.
        base_lr: The learning rate to multiply, or None if the optimizer does not have one.
        base_wd: The weight decay to multiply, or None if the optimizer does not have one.
    """

    cfg: Mapping[str, Any]
    base_lr: float | None
    base_wd: float | None

    def settings(self, location: ParamLocation) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Returns the settings that `cfg` sets for a parameter, and the keys of `cfg` that apply to it."""
        custom_keys = self.cfg.get("custom_keys") or {}
        key = min((key for key in custom_keys if key in location.path), key=lambda key: (-len(key), key), default=None)
        if key is not None:
            fields = {name: value for name, value in custom_keys[key].items() if value is not None}
            scaled = self._scaled(*(fields.pop(name, None) for name in _CUSTOM_MULTIPLIERS))
            return scaled | fields, (f"custom_keys.{key}",)
        rules = self.lr_rule(location), self.decay_rule(location)
        applied = tuple(rule for rule in rules if self.cfg.get(rule) is not None)
        return self._scaled(*map(self.cfg.get, rules)), applied

    def lr_rule(self, location: ParamLocation) -> str:
        """Returns the key of the learning rate multiplier for a parameter that no custom key matches.

        Returns "" if no multiplier applies.
        """
        if location.is_offset and self.cfg.get("dcn_offset_lr_mult") is not None:
            return "dcn_offset_lr_mult"
        return "bias_lr_mult" if location.name == "bias" and not (location.is_norm or location.in_deformable) else ""

    def decay_rule(self, location: ParamLocation) -> str:
        """Returns the key of the weight decay multiplier for a parameter that no custom key matches.

        If several multipliers apply, returns the first one that is set. Returns "" if no multiplier applies.
        """
        applies = {
            "norm_decay_mult": location.is_norm,
            "bias_decay_mult": location.name == "bias" and not location.in_deformable,
            "dwconv_decay_mult": location.is_depthwise,
            "flat_decay_mult": location.ndim == 1 and not location.in_deformable,
        }
        return next((key for key, does in applies.items() if does and self.cfg.get(key) is not None), "")

    def _scaled(self, lr_mult: float | None, decay_mult: float | None) -> dict[str, Any]:
        scales = (("lr", self.base_lr, lr_mult), ("weight_decay", self.base_wd, decay_mult))
        return {name: base * scale for name, base, scale in scales if base is not None and scale is not None}


def check_paramwise(cfg: Any) -> None:
    """Checks the types and ranges of the values in a `paramwise_cfg`.

    Raises:
        ArgumentError: `paramwise_cfg` is not a dict, or an entry has the wrong type or is out of range.
    """
    if not isinstance(cfg, Mapping):
        raise ArgumentError("paramwise_cfg must be a dict", key="paramwise_cfg", found=cfg)
    with at_key("paramwise_cfg"), located(cfg):
        for key in (*_DECAY_MULTIPLIERS, *_LR_MULTIPLIERS):
            check_number(key, cfg.get(key), least=0, optional=True)
        check_flag("bypass_duplicate", cfg.get("bypass_duplicate", False))
        custom_keys = cfg.get("custom_keys") or {}
        if not isinstance(custom_keys, Mapping) or not all(
            isinstance(key, str) and isinstance(settings, Mapping) for key, settings in custom_keys.items()
        ):
            raise ArgumentError("custom_keys must map strings to dicts", key="custom_keys", found=custom_keys)
        for key, settings in custom_keys.items():
            for name in (*_CUSTOM_MULTIPLIERS, "lr", "weight_decay", "momentum"):
                check_number(f"custom_keys.{key}.{name}", settings.get(name), least=0, optional=True)


def warn_of_unknown_keys(cfg: Mapping[str, Any], known: Sequence[str] = PARAMWISE_KEYS) -> None:
    """Warns about unknown keys in `paramwise_cfg`, and about misspelled multipliers in `custom_keys`.

    `known` defaults to the keys of the default constructor.
    """
    for key in cfg:
        if key not in known:
            _warn(f"unknown key '{key}' in paramwise_cfg", nearest(key, known), origin_of(cfg, key))
    for key, settings in (cfg.get("custom_keys") or {}).items():
        for name in settings:
            # Other names may be parameter group fields.
            if name not in _CUSTOM_MULTIPLIERS and (near := nearest(name, _CUSTOM_MULTIPLIERS)):
                _warn(
                    f"unknown key '{name}' in the custom key '{key}' of paramwise_cfg", near, origin_of(settings, name)
                )


def warn_of_idle_keys(rules: ParamwiseRules, model: nn.Module) -> None:
    """Warns about custom keys without effect: they match no parameter, or no first name of a shared parameter.

    Ignores unmatched keys in the configs of installed packages, which apply to several models and cannot be edited.
    """
    custom_keys = rules.cfg.get("custom_keys") or {}
    first: dict[nn.Parameter, str] = {}
    shared: dict[str, str] = {}  # the first name of the parameter by each further name
    for name, parameter in model.named_parameters(remove_duplicate=False):
        path = name if "." in name else f".{name}"
        if first.setdefault(parameter, path) != path:
            shared[path] = first[parameter]
    paths = first.values()
    for key in custom_keys:
        origin = origin_of(custom_keys, key)
        if any(key in path for path in paths):
            continue
        if further := next((path for path in shared if key in path), None):
            names = f"'{further.lstrip('.')}' is the same parameter as '{shared[further].lstrip('.')}'"
            _warn(f"the custom key '{key}' in paramwise_cfg has no effect: {names}; use that name", None, origin)
        elif not (origin and origin.file.startswith(NOT_USER_CODE)):
            near = nearest(key.strip("."), [*paths, *".".join(paths).split(".")])
            _warn(f"the custom key '{key}' in paramwise_cfg matches no parameter", near, origin)


def _warn(message: str, suggestion: str | None = None, origin: Origin | None = None) -> None:
    hint = f"; did you mean '{suggestion}'?" if suggestion else ""
    _logger.warning("%s%s%s", location_prefix(origin), message, hint)
