"""Constructors as the first generation has them: from the section `optimizer` to an optimizer."""

import re
from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer

from footplate.distributed import unwrap_model
from footplate.errors import ArgumentError
from footplate.optim.constructors.default import DefaultOptimWrapperConstructor
from footplate.optim.constructors.param_groups import Group
from footplate.optim.constructors.paramwise_rules import Place, Rules
from footplate.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIMIZER_BUILDERS


class FirstGenerationRules(Rules):
    """The first generation's rules: a depthwise convolution comes before its bias, and each multiplier is 1 by default.

    So `bias_decay_mult` means neither the biases of normalization layers nor those of depthwise convolutions.
    """

    def decay_rule(self, place: Place) -> str | None:
        """Returns the key of the weight decay multiplier where no custom key matches."""
        if place.is_norm:
            return "norm_decay_mult"
        if place.is_depthwise:
            return "dwconv_decay_mult"
        if place.name == "bias" and not place.in_deformable:
            return "bias_decay_mult"
        return None


@OPTIMIZER_BUILDERS.register_module()
class DefaultOptimizerConstructor(DefaultOptimWrapperConstructor):
    """The first generation's default constructor, which returns the optimizer itself.

    Args:
        optimizer_cfg: The section `optimizer`.
        paramwise_cfg: The settings per parameter.
    """

    rules_type = FirstGenerationRules

    def __init__(self, optimizer_cfg: Mapping[str, Any], paramwise_cfg: Mapping[str, Any] | None = None) -> None:
        super().__init__({"optimizer": optimizer_cfg}, paramwise_cfg)

    def __call__(self, model: nn.Module) -> Optimizer:
        """Returns the optimizer over the parameters of `model`."""
        return self.make_optimizer(unwrap_model(model))


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class PatternOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Settings by regular expression: the older `paramwise_options`.

    `paramwise_cfg` maps patterns to settings. Each pattern that is found in a parameter's name sets what it says, in
    their order; `<field>_mult` multiplies what the optimizer's section gives for the field.

    Example:
        >>> from torch import nn
        >>> cfg = dict(optimizer=dict(type="SGD", lr=0.1, weight_decay=1e-4))
        >>> build = PatternOptimWrapperConstructor(cfg, {"bias$": dict(weight_decay=0.0)})
        >>> [group["weight_decay"] for group in build(nn.Linear(2, 2)).param_groups]
        [0.0001, 0.0]
    """

    def add_params(
        self, params: list[Group], module: nn.Module, prefix: str = "", is_dcn_module: bool | None = None
    ) -> None:
        """Appends one group for each parameter of `module`."""
        for name, parameter in module.named_parameters(prefix):
            settings: Group = {}
            if parameter.requires_grad:
                for pattern, options in self.paramwise_cfg.items():
                    if re.search(pattern, name):
                        settings.update(self._options(options))
                        self.reasons[name] = (*self.reasons.get(name, ()), pattern)
            params.append({"params": [parameter], **settings})

    def _options(self, options: Mapping[str, Any]) -> Group:
        settings: Group = {}
        for key, value in options.items():
            field = key.removesuffix("_mult")
            if field == key:
                settings[key] = value
            elif field in self.optimizer_cfg:
                if not isinstance(value, (int, float)) or value < 0:
                    raise ArgumentError(f'"{key}" must be a number of at least 0', key="paramwise_cfg", found=value)
                settings[field] = self.optimizer_cfg[field] * value
            else:
                raise ArgumentError(f'"{key}" needs "{field}" in the optimizer', key=f"optimizer.{field}")
        return settings

    def _validate_cfg(self) -> None:
        for pattern, options in self.paramwise_cfg.items():
            if not isinstance(options, Mapping):
                raise ArgumentError(
                    "the settings of a pattern must be a dict", key=f"paramwise_cfg.{pattern}", found=options
                )
            try:
                re.compile(pattern)
            except re.error as error:
                message = f"'{pattern}' is no pattern: {error}"
                raise ArgumentError(message, key="paramwise_cfg", found=pattern) from error

    def _warn(self, model: nn.Module) -> None:
        """Says nothing: a pattern that meets no parameter is common in these configs."""
