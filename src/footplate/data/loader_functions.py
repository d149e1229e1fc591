"""Builds the functions in a dataloader section: `collate_fn` and `worker_init_fn`."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from footplate.distributed import get_rank
from footplate.error_context import at_key
from footplate.errors import ArgumentError, BuildError
from footplate.registry import FUNCTIONS, import_lazy, using_scope


def build_collate(cfg: Mapping[str, Any]) -> Callable[[Sequence[Any]], Any]:
    """Returns the collate function of a dataloader section. The default is `pseudo_collate`."""
    collate = cfg.get("collate_fn")
    return _build_function("pseudo_collate" if collate is None else collate, "collate_fn")


def build_worker_init(settings: Mapping[str, Any], seed: int) -> Callable[..., Any] | None:
    """Returns the function configured as `worker_init_fn`, or None if it is not set.

    If `worker_init_fn` is a dict, the function also receives `num_workers`, `rank` and `seed`, if it accepts them.
    """
    cfg = settings.get("worker_init_fn")
    if cfg is None:
        return None
    if not isinstance(cfg, Mapping):
        return _build_function(cfg, "worker_init_fn")
    # An MMEngine option that silences warnings in workers, which footplate does not need.
    cfg = {key: value for key, value in cfg.items() if key != "disable_subprocess_warning"}
    function = _build_function(cfg, "worker_init_fn")
    known = {"num_workers": settings.get("num_workers", 0), "rank": get_rank(), "seed": seed}
    accepted = inspect.signature(function).parameters.keys() - cfg.keys()
    return partial(function, **{key: value for key, value in known.items() if key in accepted})


def _build_function(cfg: Any, key: str) -> Callable[..., Any]:
    """Returns the function that `cfg` specifies as a function, a name, or a dict with a `type` and arguments."""
    with at_key(key):
        cfg = import_lazy(cfg)
        if isinstance(cfg, str):
            return FUNCTIONS.get(cfg)
        if not isinstance(cfg, Mapping):
            if not callable(cfg):
                raise ArgumentError(f"{key} must be a function, its name, or a dict with a 'type' key", found=cfg)
            return cfg  # type: ignore[no-any-return]
        if "type" not in cfg:
            raise BuildError("a dict that describes a function must have a 'type' key", found=dict(cfg))
        with using_scope(cfg.get("_scope_")):
            function = FUNCTIONS.resolve(cfg["type"], cfg)
        if inspect.isclass(function):
            return FUNCTIONS.build(cfg)  # type: ignore[no-any-return]
        arguments = {name: value for name, value in cfg.items() if name not in ("type", "_scope_")}
        return partial(function, **arguments) if arguments else function
