from pathlib import Path
from typing import Any

import pytest

from footplate import Runner
from footplate.hooks import empty_cache
from tests.support import settings


@pytest.mark.parametrize(
    ("hook", "times"),
    [
        ({}, 2 + 2),  # after each of two epochs of training and of validation
        ({"before_epoch": True, "after_epoch": False}, 2 + 2),
        ({"after_epoch": False, "after_iter": True}, 2 * 4 + 2 * 2),
    ],
)
def test_the_cache_is_emptied_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hook: dict[str, Any], times: int
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(empty_cache, "empty_cache", lambda: calls.append(1))
    cfg = settings(tmp_path, custom_hooks=[{"type": "EmptyCacheHook", **hook}])
    Runner(**{**cfg, "train_cfg": {"by_epoch": True, "max_epochs": 2}}).train()
    assert len(calls) == times
