"""The default constructor: settings per parameter, merged into groups, wrapped."""

import copy
import logging
from collections.abc import Iterator, Mapping, Sequence
from numbers import Real
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from footplate.distributed import unwrap_model
from footplate.error_context import at_key, origin_of, with_origins
from footplate.errors import ArgumentError
from footplate.optim.constructors.checks import (
    check_paramwise,
    warn_of_missing_fields,
    warn_of_unknown_keys,
    warn_of_unmet_keys,
)
from footplate.optim.constructors.merging import Group, merge_groups
from footplate.optim.constructors.rules import Place, Rules, is_deformable
from footplate.optim.optimizers import build_optimizer, default_of
from footplate.optim.wrappers.base import OptimWrapper
from footplate.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS

_logger = logging.getLogger("footplate.optim")


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class DefaultOptimWrapperConstructor:
    """Builds an optimizer over the parameters of a model, and its wrapper.

    `paramwise_cfg` may hold `bias_lr_mult`, `bias_decay_mult`, `norm_decay_mult`, `flat_decay_mult` (one-dimensional
    parameters), `dwconv_decay_mult`, `dcn_offset_lr_mult`, `bypass_duplicate` (say nothing about parameters met under
    a second name) and `custom_keys`: settings by a part of the parameter's path, `lr_mult`, `decay_mult` and any
    further field of a group. A matching custom key decides alone; the longest one counts, of equally long ones the
    first in the alphabet. Parameters with equal settings share one group. Frozen parameters keep the optimizer's own
    settings, ready for the day they are thawed.

    A subclass may override any method. It may also set `paramwise_cfg`, `optimizer_cfg`, `optim_wrapper_cfg`, `base_lr`
    and `base_wd` at any time, in `__call__` too: they are read when the groups are made. As in the other engines,
    `base_lr` and `base_wd` are what multipliers multiply; parameters without one keep the optimizer's own settings.

    Args:
        optim_wrapper_cfg: The wrapper's section, with `optimizer` in it.
        paramwise_cfg: The settings per parameter.

    Raises:
        ArgumentError: A setting is of the wrong type.

    Example:
        >>> from torch import nn
        >>> cfg = dict(optimizer=dict(type="SGD", lr=0.1, weight_decay=1e-4))
        >>> build = DefaultOptimWrapperConstructor(cfg, dict(bias_decay_mult=0.0))
        >>> [(len(group["params"]), group["weight_decay"]) for group in build(nn.Linear(2, 2)).param_groups]
        [(1, 0.0001), (1, 0.0)]
    """

    rules_type: type[Rules] = Rules

    def __init__(self, optim_wrapper_cfg: Mapping[str, Any], paramwise_cfg: Mapping[str, Any] | None = None) -> None:
        if not isinstance(optim_wrapper_cfg, Mapping):
            raise ArgumentError("optim_wrapper must be a dict", found=optim_wrapper_cfg)
        if "optimizer" not in optim_wrapper_cfg:
            raise ArgumentError(
                'optim_wrapper needs an "optimizer"', key="optimizer", origin=origin_of(optim_wrapper_cfg)
            )
        self.optim_wrapper_cfg = with_origins({"type": "OptimWrapper", **optim_wrapper_cfg}, optim_wrapper_cfg)
        self.optimizer_cfg: Mapping[str, Any] = self.optim_wrapper_cfg.pop("optimizer")
        self.paramwise_cfg: Mapping[str, Any] = {} if paramwise_cfg is None else paramwise_cfg
        self._validate_cfg()
        with at_key("optimizer"):
            self.base_lr = default_of(self.optimizer_cfg, "lr")
            self.base_wd = default_of(self.optimizer_cfg, "weight_decay")
            for key, value in (("lr", self.base_lr), ("weight_decay", self.base_wd)):
                if value is not None and not isinstance(value, (Real, Tensor)):
                    raise ArgumentError(f"'{key}' must be a number", key=key, found=value)
        self._make_rules()
        self.reasons: dict[str, tuple[str, ...]] = {}

    @property
    def rules(self) -> Rules:
        """The rules that follow from `paramwise_cfg`, `base_lr` and `base_wd` as they are now."""
        if self._rules_of != (self.paramwise_cfg, self.base_lr, self.base_wd, self.optimizer_cfg):
            self._validate_cfg()
            self._make_rules()
        return self._rules

    def _make_rules(self) -> None:
        given = (self.paramwise_cfg, self.base_lr, self.base_wd, self.optimizer_cfg)
        self._rules_of = copy.deepcopy(given)  # a subclass may change them in place
        self._rules = self.rules_type(self.paramwise_cfg, self.base_lr, self.base_wd)
        own = {field: default_of(self.optimizer_cfg, field) for field in ("lr", "weight_decay")}
        self._own: Group = {field: value for field, value in own.items() if value is not None}

    def __call__(self, model: nn.Module) -> Any:
        """Returns the wrapper of an optimizer over the parameters of `model`."""
        model = unwrap_model(model)
        wrapper: OptimWrapper = OPTIM_WRAPPERS.build(self.optim_wrapper_cfg, optimizer=self.make_optimizer(model))
        wrapper.name_parameters(model)
        wrapper.reasons = self.reasons
        return wrapper

    def make_optimizer(self, model: nn.Module) -> Optimizer:
        """Returns the optimizer over the parameters of `model`, with a group for each distinct setting."""
        groups: list[Group] = []
        self.add_params(groups, model)
        self._warn(model)
        once = list(_each_parameter_once(groups, quiet=bool(self.paramwise_cfg.get("bypass_duplicate"))))
        with at_key("optimizer"):
            optimizer = build_optimizer(self.optimizer_cfg, merge_groups(once))
        # Once more, now that the optimizer has filled in its own defaults.
        optimizer.param_groups[:] = merge_groups(optimizer.param_groups)
        return optimizer

    def add_params(
        self, params: list[Group], module: nn.Module, prefix: str = "", is_dcn_module: bool | None = None
    ) -> None:
        """Appends one group for each parameter of `module` and of the modules in it, in their order.

        Args:
            params: The groups so far.
            module: Where the parameters are.
            prefix: The path of `module` in the model.
            is_dcn_module: Whether `module` is part of a deformable convolution.
        """
        for name, parameter in module.named_parameters(recurse=False):
            rules = self.rules
            group: Group = {"params": [parameter], **self._own}
            if self._skips_duplicates() and self._is_in(group, params):
                continue
            if parameter.requires_grad:
                place = Place(name, prefix, module, parameter.ndim, bool(is_dcn_module))
                settings = rules.settings(place)
                group.update({key: value for key, value in settings.items() if value is not None})
                self.reasons[place.path.lstrip(".")] = rules.reasons(place)
            params.append(group)
        for name, child in module.named_children():
            path = f"{prefix}.{name}" if prefix else name
            self.add_params(params, child, path, is_deformable(module))

    def _is_in(self, param_group: Group, param_group_list: Sequence[Group]) -> bool:
        """Checks whether a parameter of `param_group` is in one of the groups already."""
        wanted = {id(each) for each in _parameters(param_group)}
        return any(id(each) in wanted for group in param_group_list for each in _parameters(group))

    def _skips_duplicates(self) -> bool:
        """Checks whether a subclass decides by `_is_in` what is a duplicate; otherwise they are dropped at the end."""
        is_overridden = type(self)._is_in is not DefaultOptimWrapperConstructor._is_in
        return is_overridden and bool(self.paramwise_cfg.get("bypass_duplicate"))

    def _validate_cfg(self) -> None:
        """Refuses settings that cannot be read; a subclass with settings of its own overrides this."""
        check_paramwise(self.paramwise_cfg)
        warn_of_unknown_keys(self.paramwise_cfg)

    def _warn(self, model: nn.Module) -> None:
        """Names settings that had no effect; called after `add_params`."""
        if self.rules.asked:  # a subclass may have rules of its own
            warn_of_missing_fields(self.rules)
            warn_of_unmet_keys(self.rules, model)


def _parameters(group: Group) -> Sequence[nn.Parameter]:
    params = group["params"]
    return params if isinstance(params, (list, tuple)) else [params]


def _each_parameter_once(groups: list[Group], *, quiet: bool) -> Iterator[Group]:
    """Drops parameters that a group before already holds; the settings under the first name count."""
    settings_of: dict[int, Group] = {}
    differing = 0
    for group in groups:
        settings = {key: value for key, value in group.items() if key != "params"}
        params = _parameters(group)
        fresh = [each for each in params if id(each) not in settings_of]
        differing += sum(settings_of.get(id(each), settings) != settings for each in params)
        settings_of.update((id(each), settings) for each in fresh)
        if fresh:
            yield {**settings, "params": fresh}
    if differing and not quiet:
        _logger.warning(
            "%d parameters are shared under names with different settings; the first name decides", differing
        )
