from collections.abc import Callable
from typing import Any

import pytest
import torch.distributed as dist

from footplate.distributed import initialize, is_distributed
from footplate.errors import ArgumentError


def test_without_a_launcher_the_process_stays_alone() -> None:
    initialize()
    initialize("none", {"backend": "nccl"})
    assert not is_distributed()


def test_an_unknown_launcher_gets_the_nearest_one() -> None:
    with pytest.raises(ArgumentError, match="unknown launcher 'pytorh'") as caught:
        initialize("pytorh")
    assert (caught.value.key, caught.value.suggestion) == ("launcher", "pytorch")


def test_torchrun_must_have_started_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ArgumentError, match="launcher 'pytorch' needs torchrun"):
        initialize("pytorch")


def again() -> tuple[int, str]:
    initialize("pytorch", {"backend": "nccl"})
    return dist.get_world_size(), dist.get_backend()


def test_joining_twice_is_joining_once(on_ranks: Callable[..., list[Any]]) -> None:
    assert on_ranks(2, again) == [(2, "gloo")] * 2
