"""Checks that an optimizer can use a saved state, before the first step and without changing a weight."""

import inspect
import math
from collections import OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.optim import Optimizer

from footplate.errors import CheckpointError
from footplate.state_values import check_saved_number

_IMPLEMENTATION = ("fused", "foreach", "capturable")  # settings that select a kernel; not all run on "meta"


def check_state(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Raises an error if a saved state has wrong shapes or types, or settings out of range.

    For optimizers of torch, each parameter takes a trial step on the device "meta". For other optimizers only the
    settings are checked.

    Args:
        optimizer: The optimizer.
        state: `state` and `param_groups`, in the grouping of the optimizer.

    Raises:
        CheckpointError: The optimizer cannot use the state.
    """
    for number, (saved, own) in enumerate(zip(state["param_groups"], optimizer.param_groups, strict=True)):
        for key, value in saved.items():
            if key.startswith("initial_"):
                _check_setting(f"param_groups[{number}].{key}", value, 0.0)
            elif key not in ("params", "param_names"):  # a missing one is compared with a number
                is_number = isinstance(value, (int, float, torch.Tensor)) and not isinstance(value, bool)
                _check_setting(f"param_groups[{number}].{key}", value, own.get(key, 0.0 if is_number else value))
    if type(optimizer).__module__.startswith("torch.optim"):
        _check_values(optimizer, state["param_groups"])
        _try_steps(optimizer, state)


def _check_setting(name: str, value: Any, own: Any) -> None:
    """Compares the type of a saved setting with that of the current one."""
    if isinstance(own, (tuple, list)) and isinstance(value, (tuple, list)) and len(value) == len(own):
        for each, other in zip(value, own, strict=True):
            if each is not None:  # Adafactor takes None or a number as the first `eps`
                _check_setting(name, each, other)
    elif own is None or isinstance(own, bool):
        if not (value is None or isinstance(value, bool) or (own is None and isinstance(value, (int, float)))):
            raise _unfit(name, value)
    elif isinstance(own, float) and isinstance(value, float) and value == own:
        return  # some optimizers use infinity for no limit
    elif isinstance(own, (int, float, torch.Tensor)):
        is_one = isinstance(value, torch.Tensor) and value.numel() == 1 and value.is_floating_point()
        try:
            check_saved_number(value.item() if is_one else value, name)
        except ValueError as error:
            raise _unfit(name, value) from error
    elif isinstance(own, (tuple, list)) or (isinstance(own, str) and not isinstance(value, str)):
        raise _unfit(name, value)


def _check_values(optimizer: Optimizer, groups: Sequence[Mapping[str, Any]]) -> None:
    """Checks saved settings by passing them to the constructor of the optimizer."""
    known = inspect.signature(type(optimizer)).parameters
    for number, (group, own) in enumerate(zip(groups, optimizer.param_groups, strict=True)):
        for settings, is_own in ((own, True), (group, False)):
            chosen = {key: settings[key] for key in known if key in settings and key not in ("params", "lr")}
            rate = settings.get("lr", 0.0)
            try:
                type(optimizer)([torch.nn.Parameter(torch.zeros(1, 1))], lr=float(rate), **chosen)  # type: ignore[call-arg]
            except Exception as error:
                if is_own:  # the constructor does not accept even the current settings, so it cannot be used for checks
                    return
                raise CheckpointError(
                    f"the saved settings of group {number} of the optimizer are wrong: {error}"
                ) from error


def _try_steps(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    for number, (saved, own) in enumerate(zip(state["param_groups"], optimizer.param_groups, strict=True)):
        if not own["params"] or not _steps(optimizer, own, own["params"][0], {}):  # some settings do not support "meta"
            continue
        for name, parameter in zip(saved["params"], own["params"], strict=True):
            held = state["state"].get(name)
            if held is None:
                continue
            where = f"the saved state of parameter {name} of the optimizer, in group {number},"
            if not isinstance(held, Mapping):
                raise CheckpointError(f"{where} is no dict", found=type(held).__name__)
            _check_kinds(where, held, parameter)
            settings = {**own, **saved, **{key: own[key] for key in _IMPLEMENTATION if key in own}}
            if not _steps(optimizer, settings, parameter, {key: _without_content(each) for key, each in held.items()}):
                shapes = {key: list(each.shape) for key, each in held.items() if isinstance(each, torch.Tensor)}
                raise CheckpointError(
                    f"{where} does not fit a parameter of shape {list(parameter.shape)}", found=shapes or list(held)
                )


def _check_kinds(where: str, held: Mapping[str, Any], parameter: torch.Tensor) -> None:
    for key, value in held.items():
        if isinstance(value, torch.Tensor) and value.numel() == 1 and not value.is_complex():
            number = value.item()
        elif isinstance(value, torch.Tensor):
            if value.is_complex() != parameter.is_complex() or not (value.is_complex() or value.is_floating_point()):
                raise CheckpointError(f"{where} has a tensor of another dtype: '{key}'", found=value.dtype)
            continue
        else:
            number = value
        if isinstance(number, (int, float)) and (not _is_finite(number) or (key == "step" and number < 0)):
            raise CheckpointError(f"{where} has a number out of bounds: '{key}'", found=number)


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an int may have any number of digits
        return False


def _without_content(value: Any) -> Any:
    """Returns a tensor on the device "meta"; 0-d tensors are copied with their value, since `step` may be one."""
    if not isinstance(value, torch.Tensor):
        return value
    if not value.dim():
        return value.detach().cpu().clone()
    return torch.empty(value.shape, dtype=value.dtype, device="meta")


def _steps(optimizer: Optimizer, group: Mapping[str, Any], parameter: torch.Tensor, state: dict[str, Any]) -> bool:
    """Checks whether a step of the optimizer succeeds on the device "meta"."""
    stand_in = torch.nn.Parameter(torch.empty(parameter.shape, dtype=parameter.dtype, device="meta"))
    stand_in.grad = torch.empty_like(stand_in)
    trial = object.__new__(type(optimizer))
    vars(trial).update(vars(optimizer))
    trial._optimizer_step_pre_hooks, trial._optimizer_step_post_hooks = OrderedDict(), OrderedDict()
    trial.state = defaultdict(dict, {stand_in: state} if state else {})
    trial.param_groups = [{**group, "params": [stand_in]}]
    try:
        type(trial).step(trial)
    except Exception:  # whatever the reason, a real step would fail too
        return False
    return True


def _unfit(name: str, value: Any) -> CheckpointError:
    return CheckpointError(
        f"the saved setting '{name}' of the optimizer has another type or is out of bounds", found=value
    )
