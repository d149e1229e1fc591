"""From the section `optimizer` to an optimizer."""

import inspect
import math
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any

from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from footplate.error_context import origin_at, origin_of
from footplate.errors import ArgumentError, BuildError, FootplateError, UnknownNameError
from footplate.optim.optimizers.registration import register_extra_optimizers
from footplate.registry import OPTIMIZERS

Params = Iterable[Parameter] | Iterable[dict[str, Any]]

_NUMBERS = ("lr", "weight_decay", "momentum", "eps", "alpha", "dampening")


def optimizer_class(cfg: Mapping[str, Any]) -> Any:
    """Returns the class or function that `cfg["type"]` names.

    Raises:
        BuildError: `cfg` is no dict with a `type`.
        UnknownNameError: No optimizer has that name.
    """
    if not isinstance(cfg, Mapping) or "type" not in cfg:
        raise BuildError("an optimizer is built from a dict with the key 'type'", found=cfg, origin=origin_of(cfg))
    kind = cfg["type"]
    installed = True
    if isinstance(kind, str) and kind not in OPTIMIZERS:
        installed = register_extra_optimizers()
    try:
        return OPTIMIZERS.resolve(kind, cfg)
    except UnknownNameError as error:
        if not installed:
            error.notes = (*error.notes, "more optimizers by name: pip install 'footplate[optimizers]'")
        raise


def build_optimizer(cfg: Mapping[str, Any], params: Params) -> Optimizer:
    """Builds the optimizer `cfg` over `params`.

    Args:
        cfg: `type` is a registered name, a class or its dotted path; the rest are constructor arguments.
        params: Parameters or groups.

    Raises:
        ArgumentError: A number is missing its sense: an lr that is a string, a negative weight decay.
    """
    kind = optimizer_class(cfg)
    for key in _NUMBERS:
        several: Any = cfg.get(key) if key == "eps" and isinstance(cfg.get(key), (list, tuple)) else [cfg.get(key)]
        if not all(map(_is_amount, several)):  # Adafactor has two numbers as its eps, of which one may be None
            raise ArgumentError(f'"{key}" must be a number', key=key, found=cfg[key], origin=origin_of(cfg, key))
        if isinstance(cfg.get(key), (int, float)) and cfg[key] < 0:
            raise ArgumentError(f'"{key}" must be at least 0', key=key, found=cfg[key], origin=origin_of(cfg, key))
        if key == "momentum" and isinstance(cfg.get(key), (int, float)) and cfg[key] > 1:
            raise ArgumentError('"momentum" must be at most 1', key=key, found=cfg[key], origin=origin_of(cfg, key))
    for key, value in cfg.items():
        several = value if isinstance(value, (list, tuple)) else [value]
        if any(isinstance(each, float) and not math.isfinite(each) for each in several):
            raise ArgumentError(f'"{key}" must be finite', key=key, found=value, origin=origin_of(cfg, key))
    betas = cfg.get("betas", ())
    if not isinstance(betas, (list, tuple)) or not all(isinstance(beta, (Real, Tensor)) for beta in betas):
        raise ArgumentError('"betas" is a list of numbers', key="betas", found=betas, origin=origin_of(cfg, "betas"))
    try:
        built: Optimizer = OPTIMIZERS.build({**cfg, "type": kind}, params=params)
    except FootplateError as error:
        error.origin = error.origin or origin_at(cfg, error.key or "type")
        raise
    except (ValueError, TypeError, LookupError) as error:  # of torch, over a value
        raise _refused(cfg, error) from error
    return built


def _is_amount(value: object) -> bool:
    return isinstance(value, (Real, Tensor, type(None))) and not isinstance(value, bool)


def _refused(cfg: Mapping[str, Any], error: Exception) -> ArgumentError:
    """Returns an error that names the value which torch most likely stumbled over."""
    unset = [key for key in _NUMBERS if key in cfg and cfg[key] is None]
    if unset:
        return ArgumentError(
            f'"{unset[0]}" must be a number', key=unset[0], found=None, origin=origin_of(cfg, unset[0])
        )
    pairs = [key for key in cfg if isinstance(cfg[key], (list, tuple))]
    key = pairs[0] if len(pairs) == 1 else ""
    found = {"key": key, "found": cfg[key]} if key else {}
    text = f"optimizer '{cfg['type']}': {error}".rstrip(".")
    return ArgumentError(text, origin=origin_of(cfg, key or "type"), **found)


def default_of(cfg: Mapping[str, Any], field: str) -> float | None:
    """Returns what `cfg` or else its class's signature gives for `field`, None where there is no number."""
    if isinstance(cfg, Mapping) and field in cfg:
        given: float | None = cfg[field]
        return given
    try:
        parameter = inspect.signature(optimizer_class(cfg)).parameters.get(field)
    except (TypeError, ValueError):
        return None
    default = parameter.default if parameter else None
    return default if isinstance(default, (int, float)) else None
