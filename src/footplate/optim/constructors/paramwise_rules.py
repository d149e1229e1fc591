"""What `paramwise_cfg` says about one parameter."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

_NORMS = (_BatchNorm, _InstanceNorm, nn.GroupNorm, nn.LayerNorm)
_DEFORMABLE = {"DeformConv2d", "ModulatedDeformConv2d"}


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a parameter stands in the model."""

    name: str
    """Its name in its own module."""
    prefix: str
    """The path of its module, empty at the top."""
    module: nn.Module
    ndim: int
    in_deformable: bool = False
    """Whether its module's parent, or the module that the walk began at, is a deformable convolution."""

    @property
    def path(self) -> str:
        """Its path in the model, as custom keys are looked for in it."""
        return f"{self.prefix}.{self.name}"

    @property
    def is_norm(self) -> bool:
        """Whether it belongs to a normalization layer."""
        return isinstance(self.module, _NORMS)

    @property
    def is_depthwise(self) -> bool:
        """Whether it belongs to a 2-d convolution with one group per input channel."""
        return isinstance(self.module, nn.Conv2d) and self.module.in_channels == self.module.groups

    @property
    def is_offset(self) -> bool:
        """Whether it belongs to the convolution that computes the offsets of a deformable one."""
        return self.in_deformable and "conv_offset" in self.prefix and isinstance(self.module, nn.Conv2d)


def is_deformable(module: nn.Module) -> bool:
    """Checks whether `module` is a deformable convolution, by the name of its class or of a base of it."""
    return any(base.__name__ in _DEFORMABLE for base in type(module).__mro__)


class Rules:
    """Turns `paramwise_cfg` into the settings of one parameter.

    A custom key that the path holds decides alone: the longest one, of equally long ones the first in the alphabet.

    Args:
        paramwise_cfg: Multipliers by kind of parameter, and `custom_keys`.
        base_lr: The learning rate that multipliers multiply, None where the optimizer has none.
        base_wd: The weight decay, likewise.
    """

    def __init__(self, paramwise_cfg: Mapping[str, Any], base_lr: float | None, base_wd: float | None) -> None:
        self.cfg = paramwise_cfg
        self.base_lr = base_lr
        self.base_wd = base_wd
        self.custom_keys: Mapping[str, Mapping[str, Any]] = paramwise_cfg.get("custom_keys") or {}
        self._sorted_keys = sorted(sorted(self.custom_keys), key=len, reverse=True)
        self.met: set[str] = set()
        self.asked = False

    def settings(self, place: Place) -> dict[str, Any]:
        """Returns the fields in which the parameter at `place` differs from the optimizer's own."""
        self.asked = True
        key = self._custom_key(place)
        if key is None:
            return self._scaled(self._multiplier(self.lr_rule(place)), self._multiplier(self.decay_rule(place)))
        self.met.update(each for each in self._sorted_keys if each in place.path)
        custom = self.custom_keys[key]
        further = {name: value for name, value in custom.items() if name not in ("lr_mult", "decay_mult")}
        return {**self._scaled(custom.get("lr_mult"), custom.get("decay_mult")), **further}

    def reasons(self, place: Place) -> tuple[str, ...]:
        """Returns the keys of `paramwise_cfg` that decide about the parameter at `place`."""
        key = self._custom_key(place)
        if key is not None:
            return (f"custom_keys.{key}",)
        rules = (self.lr_rule(place), self.decay_rule(place))
        return tuple(rule for rule in rules if rule is not None and self._multiplier(rule) is not None)

    def lr_rule(self, place: Place) -> str | None:
        """Returns the key of the learning rate multiplier where no custom key matches."""
        if place.is_offset and self.cfg.get("dcn_offset_lr_mult") is not None:
            return "dcn_offset_lr_mult"
        if place.name == "bias" and not (place.is_norm or place.in_deformable):
            return "bias_lr_mult"
        return None

    def decay_rule(self, place: Place) -> str | None:
        """Returns the key of the weight decay multiplier where no custom key matches: the first set one that fits."""
        fits = {
            "norm_decay_mult": place.is_norm,
            "bias_decay_mult": place.name == "bias" and not place.in_deformable,
            "dwconv_decay_mult": place.is_depthwise,
            "flat_decay_mult": place.ndim == 1 and not place.in_deformable,
        }
        return next((key for key, fit in fits.items() if fit and self.cfg.get(key) is not None), None)

    def _custom_key(self, place: Place) -> str | None:
        return next((key for key in self._sorted_keys if key in place.path), None)

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
