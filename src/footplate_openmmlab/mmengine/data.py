"""Functions and types from `mmengine` for data, metrics and writers, used only by code bases."""

from collections.abc import Callable, Sequence
from functools import partial, wraps
from typing import Any

from footplate.data.rng import seed_generators
from footplate.evaluation.metric import to_device

DATA_BATCH = dict[str, Any] | tuple[Any, ...] | list[Any] | None
SUFFIX_TYPE = Sequence[str] | str


def _after(method: str, flag: str, old_func: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates a method so that it calls `self.<method>()` first, unless `self.<flag>` is set."""

    @wraps(old_func)
    def initialized(obj: Any, *args: Any, **kwargs: Any) -> Any:
        if not getattr(obj, flag, False):
            getattr(obj, method)()
            setattr(obj, flag, True)
        return old_func(obj, *args, **kwargs)

    return initialized


force_full_init = partial(_after, "full_init", "_fully_initialized")
"""Decorates a dataset method. The method then loads the annotations first if they are not loaded yet."""
force_init_env = partial(_after, "_init_env", "_env_initialized")
"""Decorates a writer method. The first call to a decorated method also calls `_init_env`."""


def worker_init_fn(
    worker_id: int, num_workers: int, rank: int, seed: int, disable_subprocess_warning: bool = False
) -> None:
    """Seeds Python, NumPy and PyTorch in a worker process with `seed + num_workers * rank + worker_id`."""
    seed_generators(num_workers * rank + worker_id + seed)


_to_cpu = partial(to_device, device="cpu")
