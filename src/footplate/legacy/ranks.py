"""Ranks as first-generation code asks for them."""

from typing import Any

from footplate.distributed import get_rank, get_world_size, initialize


def get_dist_info(group: Any = None) -> tuple[int, int]:
    """Returns the number of this process and how many there are."""
    return get_rank(), get_world_size()


def init_dist(launcher: str, backend: str | None = None, **options: Any) -> None:
    """Joins the other processes, which `launcher` has started; `timeout` and `port` count, other options do not."""
    known = {key: value for key, value in options.items() if key in ("timeout", "port")}
    initialize(launcher, {**({} if backend is None else {"backend": backend}), **known} or None)
