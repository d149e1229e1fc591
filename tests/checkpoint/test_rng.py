import logging
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from footplate.checkpoint import capture_rng, load_checkpoint, restore_rng, save_checkpoint


def _draw() -> tuple[list[float], list[float], list[float]]:
    mine = [random.random(), random.gauss(0, 1)]
    return mine, np.random.standard_normal(3).tolist(), torch.randn(3).tolist()


@pytest.mark.parametrize("draws", [0, 1, 5])
def test_generators_go_on_where_they_stood(tmp_path: Path, draws: int) -> None:
    for _ in range(draws):
        _draw()
    save_checkpoint({"random": capture_rng()}, tmp_path / "a.pth")
    expected = [_draw(), _draw()]
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    restore_rng(load_checkpoint(tmp_path / "a.pth")["random"])
    assert [_draw(), _draw()] == expected


def test_capturing_moves_nothing() -> None:
    state = capture_rng()
    capture_rng()
    again = capture_rng()
    assert torch.equal(state["torch"], again["torch"])
    assert torch.equal(state["python"]["words"], again["python"]["words"])
    assert torch.equal(state["numpy"]["keys"], again["numpy"]["keys"])


def test_devices_that_are_gone_are_told(caplog: pytest.LogCaptureFixture) -> None:
    state = capture_rng()
    state["devices"] = {"tpu": [torch.zeros(1), torch.zeros(1)]}
    with caplog.at_level(logging.WARNING):
        restore_rng(state)
    assert caplog.messages == ["random state of 2 'tpu' devices was saved, 0 are here"]
