"""First-generation optimizer constructors."""

import re
from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer

from footplate.distributed import unwrap_model
from footplate.optim.constructors import DefaultOptimWrapperConstructor, Group
from footplate.optim.paramwise import ParamLocation, ParamwiseRules
from footplate.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIMIZER_BUILDERS


class FirstGenerationRules(ParamwiseRules):
    """The `paramwise_cfg` rules of first-generation constructors.

    `bias_decay_mult` never applies to the biases of normalization layers and depthwise convolutions, even if
    `norm_decay_mult` or `dwconv_decay_mult` is not set.
    """

    def decay_rule(self, location: ParamLocation) -> str:
        """Returns the key of the weight decay multiplier for a parameter that no custom key matches.

        Returns "" if no multiplier applies.
        """
        if location.is_norm:
            return "norm_decay_mult"
        if location.is_depthwise:
            return "dwconv_decay_mult"
        if location.name == "bias" and not location.in_deformable:
            return "bias_decay_mult"
        return ""


@OPTIMIZER_BUILDERS.register_module()
class DefaultOptimizerConstructor(DefaultOptimWrapperConstructor):
    """The default first-generation constructor, which returns the optimizer without a wrapper.

    With `paramwise_cfg`, each parameter has a group of its own, because learning rate policies in published code set
    the rates of single parameters.

    Args:
        optimizer_cfg: The `optimizer` config section.
        paramwise_cfg: See `DefaultOptimWrapperConstructor`.
    """

    rules_type = FirstGenerationRules
    merges_groups = False

    def __init__(self, optimizer_cfg: Mapping[str, Any], paramwise_cfg: Mapping[str, Any] | None = None) -> None:
        super().__init__({"optimizer": optimizer_cfg}, paramwise_cfg)

    def __call__(self, model: nn.Module) -> Optimizer:
        """Builds an optimizer for the parameters of a model."""
        return self.make_optimizer(unwrap_model(model))


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class FirstGenerationOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Applies `bias_decay_mult` to the same biases as the first generation; see `FirstGenerationRules`."""

    rules_type = FirstGenerationRules


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class PatternOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Sets parameter group fields based on regular expressions, as in the old `paramwise_options`.

    `paramwise_cfg` maps patterns to settings. All patterns that match any part of the parameter name are applied in
    order. `<field>_mult` multiplies the field's value in the `optimizer` section.

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
        """Appends a parameter group for each parameter of `module`."""
        for name, parameter in module.named_parameters(prefix):
            group: Group = {"params": [parameter]}
            for pattern, options in self.paramwise_cfg.items() if parameter.requires_grad else ():
                if re.search(pattern, name):
                    self.reasons[name] = (*self.reasons.get(name, ()), pattern)
                    for key, value in options.items():
                        field = key.removesuffix("_mult")
                        group[field] = value if field == key else self.optimizer_cfg[field] * value
            params.append(group)

    def _validate_cfg(self) -> None:
        """Does nothing, because the keys are patterns rather than setting names."""
