"""Functions and types of `mmengine` for data, metrics and writers that only code bases use."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from torch import Tensor

from footplate.data.rng import seed_generators
from footplate.hosts.mmengine.utils import apply_to

DATA_BATCH = dict[str, Any] | tuple[Any, ...] | list[Any] | None
SUFFIX_TYPE = Sequence[str] | str


def _after(method: str, flag: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Returns a decorator that makes a method first call `method` of its object, unless the attribute `flag` is set."""

    def decorate(old_func: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(old_func)
        def initialized(obj: Any, *args: Any, **kwargs: Any) -> Any:
            if not hasattr(obj, method):
                raise AttributeError(f"{type(obj).__name__} has no method '{method}'.")
            if not getattr(obj, flag, False):
                getattr(obj, method)()
                setattr(obj, flag, True)
            return old_func(obj, *args, **kwargs)

        return initialized

    return decorate


force_full_init = _after("full_init", "_fully_initialized")
"""Decorates a method of a dataset so that a call first loads the annotations if they are not loaded yet."""
force_init_env = _after("_init_env", "_env_initialized")
"""Decorates a method of a writer so that a call first calls `_init_env` if it has not been called yet."""


def worker_init_fn(
    worker_id: int, num_workers: int, rank: int, seed: int, disable_subprocess_warning: bool = False
) -> None:
    """Seeds Python, NumPy and PyTorch in a worker, based on its rank and worker id."""
    seed_generators(num_workers * rank + worker_id + seed)


def get_metric_value(indicator: str, metrics: dict[str, Any]) -> Any:
    """Returns the value of a metric, given its name with or without the prefix of its metric class.

    Raises:
        ValueError: The name matches no metric or several metrics.
    """
    if indicator in metrics:
        return metrics[indicator]
    found = [key for key in metrics if key.rpartition("/")[2] == indicator]
    if len(found) != 1:
        names = ", ".join(found or metrics)
        raise ValueError(f"The metric '{indicator}' is {'ambiguous' if found else 'unknown'}. Choose one of {names}.")
    return metrics[found[0]]


def _to_cpu(data: Any) -> Any:
    """Returns nested data with its tensors on the CPU."""
    return apply_to(
        data, lambda each: isinstance(each, Tensor) or hasattr(each, "to_tensor"), lambda each: each.to("cpu")
    )
