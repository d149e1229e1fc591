"""Constructors, which build an optimizer with its parameter groups from a config section."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

from footplate.distributed import unwrap_model
from footplate.error_context import at_key, origin_of, with_defaults
from footplate.errors import ArgumentError
from footplate.module_selection import named_children
from footplate.optim.muon import Muon, split_hidden_matrices
from footplate.optim.optimizer_builder import build_optimizer, default_of, optimizer_class
from footplate.optim.paramwise import (
    ParamLocation,
    ParamwiseRules,
    check_paramwise,
    is_deformable,
    warn_of_idle_keys,
    warn_of_unknown_keys,
)
from footplate.optim.wrappers import OptimWrapper
from footplate.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS

_logger = logging.getLogger("footplate.optim")

Group = dict[str, Any]


def merge_groups(groups: Iterable[Group]) -> list[Group]:
    """Merges groups with equal settings, in order of first appearance."""
    merged: list[tuple[Group, list[nn.Parameter]]] = []
    for group in groups:
        settings, params = _split(group)
        same = next((members for known, members in merged if known == settings), None)
        if same is None:
            merged.append((settings, [*params]))
        else:
            same += params
    return [{"params": params, **settings} for settings, params in merged]


def drop_duplicates(groups: Iterable[Group]) -> Iterator[Group]:
    """Removes parameters that already occur in an earlier group, and yields the groups that are not empty.

    Warns about parameters whose settings differ between groups.
    """
    first: dict[int, Group] = {}  # the settings of each parameter, by id
    differing = 0
    for group in groups:
        settings, params = _split(group)
        new = [parameter for parameter in params if first.setdefault(id(parameter), settings) is settings]
        differing += sum(first[id(parameter)] != settings for parameter in params)
        if new:
            yield {**settings, "params": new}
    if differing:
        _logger.warning(
            "Some shared parameters (%d) have different settings under different names. The settings for the first "
            "name are used.",
            differing,
        )


def _split(group: Group) -> tuple[Group, Sequence[nn.Parameter]]:
    """Splits a parameter group into its settings and its parameters. `params` may be a single parameter."""
    params = group["params"]
    settings = {key: value for key, value in group.items() if key != "params"}
    return settings, params if isinstance(params, (list, tuple)) else [params]


def _inner_model(model: nn.Module) -> nn.Module:
    """Returns `model.module` if it has all parameters of the model, as in a wrapper that is not registered."""
    inner = getattr(model, "module", None)
    if isinstance(inner, nn.Module) and len([*inner.parameters()]) == len([*model.parameters()]):
        return inner
    return model


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class DefaultOptimWrapperConstructor:
    """Builds an optimizer and its wrapper for a model's parameters.

    Keys of `paramwise_cfg`:

    - `bias_lr_mult` (except in normalization layers) and `dcn_offset_lr_mult` multiply the learning rate.
    - `norm_decay_mult`, `bias_decay_mult`, `dwconv_decay_mult` and `flat_decay_mult` (for one-dimensional parameters)
      multiply the weight decay. If several of them apply to a parameter, the first one in this order that is set is
      used.
    - Inside deformable convolutions, `bias_lr_mult`, `bias_decay_mult` and `flat_decay_mult` do not apply.
    - `custom_keys` maps parts of parameter paths to dicts with `lr_mult`, `decay_mult` or any other parameter group
      field. The settings of the longest matching key (the first in alphabetical order if there are several) replace all
      of the multipliers above.
    - `bypass_duplicate` disables the warning about shared parameters.

    Parameters with equal settings share a group. Frozen parameters are included with the optimizer's settings, in case
    they are unfrozen later.

    Subclasses may override any method. They may also change the attributes `paramwise_cfg`, `optimizer_cfg`,
    `optim_wrapper_cfg`, `base_lr` and `base_wd` at any time before the groups are built, even in `__call__`.
    Multipliers apply to `base_lr` and `base_wd`. Parameters without a multiplier use the optimizer's settings.

    Args:
        optim_wrapper_cfg: The `optim_wrapper` section, including `optimizer`.
        paramwise_cfg: The per-parameter settings.

    Raises:
        ArgumentError: A setting is missing, has the wrong type or is out of range.

    Example:
        >>> from torch import nn
        >>> cfg = dict(optimizer=dict(type="SGD", lr=0.1, weight_decay=1e-4))
        >>> build = DefaultOptimWrapperConstructor(cfg, dict(bias_decay_mult=0.0))
        >>> [(len(group["params"]), group["weight_decay"]) for group in build(nn.Linear(2, 2)).param_groups]
        [(1, 0.0001), (1, 0.0)]
    """

    rules_type: type[ParamwiseRules] = ParamwiseRules
    merges_groups = True
    """Whether parameters with equal settings share a group. Otherwise, the groups with `paramwise_cfg` are those of
    `add_params`."""

    def __init__(self, optim_wrapper_cfg: Mapping[str, Any], paramwise_cfg: Mapping[str, Any] | None = None) -> None:
        if "optimizer" not in optim_wrapper_cfg:
            raise ArgumentError(
                "optim_wrapper needs the key 'optimizer'", key="optimizer", origin=origin_of(optim_wrapper_cfg)
            )
        self.optim_wrapper_cfg = with_defaults(optim_wrapper_cfg, type="OptimWrapper")
        self.optimizer_cfg: Mapping[str, Any] = self.optim_wrapper_cfg.pop("optimizer")
        self.paramwise_cfg: Mapping[str, Any] = {} if paramwise_cfg is None else paramwise_cfg
        self._validate_cfg()
        with at_key("optimizer"):
            self.base_lr = default_of(self.optimizer_cfg, "lr")
            self.base_wd = default_of(self.optimizer_cfg, "weight_decay")
        self.reasons: dict[str, tuple[str, ...]] = {}
        self.whole_model: nn.Module | None = None
        """With several optimizers, the whole model that contains the submodule to optimize; otherwise None. Set by
        `build_optim_wrapper`."""

    @property
    def rules(self) -> ParamwiseRules:
        """The rules that result from the current `paramwise_cfg`, `base_lr` and `base_wd`."""
        return self.rules_type(self.paramwise_cfg, self.base_lr, self.base_wd)

    def __call__(self, model: nn.Module) -> Any:
        """Returns an optimizer wrapper for the parameters of `model`."""
        model = unwrap_model(model)
        wrapper: OptimWrapper = OPTIM_WRAPPERS.build(self.optim_wrapper_cfg, optimizer=self.make_optimizer(model))
        wrapper.name_parameters(model)
        return wrapper

    def make_optimizer(self, model: nn.Module) -> Optimizer:
        """Returns an optimizer for the parameters of `model`."""
        groups: list[Group] = []
        has_own_rules = type(self).add_params is not DefaultOptimWrapperConstructor.add_params
        self.add_params(groups, _inner_model(model) if has_own_rules else model)
        if not has_own_rules:  # own rules may have keys of their own
            warn_of_unknown_keys(self.paramwise_cfg)
            warn_of_idle_keys(self.rules, model)
        unique = drop_duplicates(groups)
        merge = merge_groups if self.merges_groups or not self.paramwise_cfg else list
        with at_key("optimizer"):
            optimizer_type = optimizer_class(self.optimizer_cfg)
            if isinstance(optimizer_type, type) and issubclass(optimizer_type, Muon):
                unique = split_hidden_matrices(unique, self.whole_model or model)
            optimizer = build_optimizer(self.optimizer_cfg, merge(unique))
        # Merge again after the optimizer has added its defaults to the groups.
        optimizer.param_groups[:] = merge(optimizer.param_groups)
        return optimizer

    def add_params(
        self, params: list[Group], module: nn.Module, prefix: str = "", is_dcn_module: bool | None = None
    ) -> None:
        """Appends one group for each parameter of `module` and its submodules, in order.

        With `bypass_duplicate`, skips parameters that are already in `params`.

        Args:
            params: The list of groups to extend.
            module: The module that contains the parameters.
            prefix: The path of `module` in the model.
            is_dcn_module: Whether the parent of `module` is a deformable convolution.
        """
        rules = self.rules
        for name, parameter in module.named_parameters(recurse=False):
            group: Group = {"params": [parameter]}
            if self.paramwise_cfg.get("bypass_duplicate") and self._is_in(group, params):
                continue
            if parameter.requires_grad:
                location = ParamLocation(name, prefix, module, parameter.ndim, bool(is_dcn_module))
                settings, reasons = rules.settings(location)
                group.update(settings)
                self.reasons[location.path.lstrip(".")] = reasons
            params.append(group)
        for name, child in named_children(module):
            self.add_params(params, child, f"{prefix}.{name}" if prefix else name, is_deformable(module))

    def _is_in(self, param_group: Group, param_group_list: Sequence[Group]) -> bool:
        """Checks whether any group in `param_group_list` contains a parameter of `param_group`."""
        wanted = set(map(id, _split(param_group)[1]))
        return any(not wanted.isdisjoint(map(id, _split(group)[1])) for group in param_group_list)

    def _validate_cfg(self) -> None:
        """Checks `paramwise_cfg`. Subclasses with additional settings override this method."""
        check_paramwise(self.paramwise_cfg)
