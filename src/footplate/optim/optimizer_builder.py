"""Registers optimizers from PyTorch and `pytorch_optimizer`, and builds optimizers from config sections."""

import importlib
import inspect
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from footplate.checks import check_number, is_number
from footplate.error_context import located, origin_of
from footplate.errors import BuildError, UnknownNameError, install_command
from footplate.messages import nearest
from footplate.registry import OPTIMIZERS
from footplate.registry.arguments import arguments_of


def register_extra_optimizers() -> bool:
    """Registers all optimizers from `pytorch_optimizer` whose names are not taken yet.

    Returns:
        Whether the package is installed.
    """
    try:
        extra = importlib.import_module("pytorch_optimizer")
    except ImportError:
        return False
    _register_from(extra)
    if "LAMB" not in OPTIMIZERS.module_dict:  # OpenMMLab's spelling
        OPTIMIZERS.register_module(name="LAMB", module=extra.Lamb)
    return True


def _register_from(module: ModuleType) -> None:
    for name, entry in list(vars(module).items()):
        is_optimizer = inspect.isclass(entry) and issubclass(entry, Optimizer) and not inspect.isabstract(entry)
        if is_optimizer and entry is not Optimizer and name not in OPTIMIZERS.module_dict:
            OPTIMIZERS.register_module(name=name, module=entry)


_register_from(torch.optim)

Params = Iterable[Parameter] | Iterable[dict[str, Any]]

# Arguments that constructors in `pytorch_optimizer` read from their **kwargs.
_UNDECLARED = {
    "AdaFactor": "beta1",
    "Adan": "clip_global_grad_norm",
    "ScheduleFreeAdamW": "use_palm",
    "ScheduleFreeRAdam": "use_palm",
}
_NON_NEGATIVE = ("lr", "weight_decay", "momentum", "eps", "betas")


def optimizer_class(cfg: Mapping[str, Any]) -> Any:
    """Returns the class or function that `cfg["type"]` refers to.

    Raises:
        BuildError: `cfg` is not a dict with a `type`.
        UnknownNameError: No optimizer with this name is registered.
    """
    if not isinstance(cfg, Mapping) or "type" not in cfg:
        raise BuildError("an optimizer must be a dict with a 'type' key", found=cfg, origin=origin_of(cfg))
    optimizer_type = cfg["type"]
    installed = True
    if isinstance(optimizer_type, str) and optimizer_type not in OPTIMIZERS:
        installed = register_extra_optimizers()
    try:
        return OPTIMIZERS.resolve(optimizer_type, cfg)
    except UnknownNameError as error:
        if not installed:
            error.notes = (*error.notes, f"For more optimizers, run: {install_command('optimizers')}")
        raise


def build_optimizer(cfg: Mapping[str, Any], params: Params) -> Optimizer:
    """Builds an optimizer for `params`.

    Args:
        cfg: A dict whose `type` is a registered name, a class or a dotted path. All other keys are constructor
            arguments.
        params: Parameters or parameter groups.

    Raises:
        BuildError: `cfg` is not a dict with a `type`, or an argument is unknown.
        ArgumentError: A value has the wrong type or is out of range, such as a negative weight decay.
    """
    optimizer_type = optimizer_class(cfg)
    _check_names(optimizer_type, cfg)
    for key in cfg:
        _check_value(cfg, key)
    missing = [name for name in arguments_of(optimizer_type).required if name not in cfg]
    name = "params" if "params" in missing or not missing else missing[0]  # `model_params` in ColossalAI's optimizers
    return OPTIMIZERS.build(cfg, **{name: params})  # type: ignore[no-any-return]


def _check_value(cfg: Mapping[str, Any], key: str) -> None:
    values = cfg[key] if isinstance(cfg[key], (list, tuple)) else [cfg[key]]
    if key in _NON_NEGATIVE:
        for value in values:
            if not isinstance(value, Tensor):
                with located(cfg):
                    check_number(key, value, least=0, optional=True)


def _check_names(optimizer_type: Any, cfg: Mapping[str, Any]) -> None:
    """Checks the argument names of `pytorch_optimizer` optimizers, whose constructors ignore unknown arguments.

    Raises:
        BuildError: An argument is unknown.
    """
    if not getattr(optimizer_type, "__module__", "").startswith("pytorch_optimizer."):
        return
    parameters = inspect.signature(optimizer_type).parameters
    if {"base_optimizer", "optimizer"} & parameters.keys():  # the remaining arguments are for that optimizer
        return
    names = [*(parameters.keys() - {"params", "kwargs"}), _UNDECLARED.get(optimizer_type.__name__, "type"), "type"]
    for key in cfg:
        if key not in names:
            raise BuildError(
                f"optimizer '{optimizer_type.__name__}' takes no argument '{key}'",
                origin=origin_of(cfg, key),
                key=key,
                found=cfg[key],
                suggestion=nearest(key, names),
            )


def is_schedule_free(optimizer: Any) -> bool:
    """Checks whether an optimizer uses different weights for training and evaluation."""
    return callable(getattr(optimizer, "eval", None)) and "train_mode" in optimizer.param_groups[0]


def default_of(cfg: Mapping[str, Any], field: str) -> float | None:
    """Returns `cfg[field]` or, if it is missing, the optimizer's default. Returns None if there is no numeric default.

    Raises:
        ArgumentError: The value in `cfg` is not a number or is out of range.
    """
    if isinstance(cfg, Mapping) and field in cfg:
        _check_value(cfg, field)
        return cfg[field]  # type: ignore[no-any-return]
    default = arguments_of(optimizer_class(cfg)).defaults.get(field)
    return default if is_number(default) else None
