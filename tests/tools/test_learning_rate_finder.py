"""Tests of the learning-rate range test, from Python and as a command."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from footplate import Runner, find_learning_rate
from footplate.cli.main import main
from footplate.errors import ArgumentError, NonFiniteError
from footplate.tools.learning_rate_finder import _suggest
from tests.support import settings


def made(work_dir: Path) -> tuple[nn.Module, Runner]:
    torch.manual_seed(0)
    x = torch.randn(256, 8)
    data = DataLoader(TensorDataset(x, (x[:, 0] > 0).long()), batch_size=32, shuffle=True)
    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    rates: Any = [{"params": model[0].parameters(), "lr": 0.02}, {"params": model[1:].parameters(), "lr": 0.2}]
    optimizer = torch.optim.SGD(rates, momentum=0.9)
    given: dict[str, Any] = {"max_epochs": 2, "loss": nn.CrossEntropyLoss(), "randomness": {"seed": 0}}
    return model, Runner(model, str(work_dir), data, optim_wrapper=optimizer, log_level="ERROR", **given)


def test_range_test_suggests_a_rate_and_changes_nothing(tmp_path: Path) -> None:
    model, runner = made(tmp_path / "tested")
    result = find_learning_rate(runner)
    assert result.rates[0] == 1e-7
    assert result.suggestion is not None
    assert 1e-3 < result.suggestion < 1
    assert result.losses[result.rates.index(10 * result.suggestion)] == min(result.losses)
    assert result.plot().width > 500
    untouched, other = made(tmp_path / "untouched")
    assert str(runner.train()) == str(other.train())
    for name, value in untouched.state_dict().items():
        assert torch.equal(value, model.state_dict()[name])
    with pytest.raises(ArgumentError, match="has already trained"):
        find_learning_rate(runner)


class CountingSGD(torch.optim.SGD):
    """Counts its steps in its groups, as optimizers of pytorch_optimizer do."""

    def step(self, *args: Any) -> Any:
        for group in self.param_groups:
            group["step"] = group.get("step", 0) + 1
        return super().step(*args)


class Counter(nn.Linear):
    calls = 0

    def forward(self, inputs: Any) -> Any:
        self.calls = self.calls + 1
        return super().forward(inputs)


def test_state_outside_of_state_dicts_is_restored(tmp_path: Path) -> None:
    model = Counter(8, 2)
    model.calls = 0
    data = DataLoader(TensorDataset(torch.randn(64, 8), torch.zeros(64).long()), batch_size=32)
    optimizer = CountingSGD(model.parameters(), lr=0.1)
    given: dict[str, Any] = {"max_epochs": 2, "loss": nn.CrossEntropyLoss(), "optim_wrapper": optimizer}
    find_learning_rate(Runner(model, str(tmp_path), data, **given), iterations=20)
    assert model.calls == 0
    assert "step" not in optimizer.param_groups[0]


def test_loss_that_does_not_fall_has_no_suggestion(tmp_path: Path) -> None:
    model, runner = made(tmp_path)
    result = find_learning_rate(runner, iterations=20, highest=1e-6)
    assert result.suggestion is None
    assert "did not fall" in str(result)
    nn.init.constant_(model.get_parameter("0.weight"), torch.nan)
    with pytest.raises(NonFiniteError, match="the loss of the first iteration is non-finite"):
        find_learning_rate(runner, iterations=20)


@pytest.mark.parametrize(
    ("losses", "suggestion"),
    [
        ([0.98, 0.9, 0.98, 0.97, 0.95, 0.99, 0.94, 0.96, 0.97, 0.98], None),  # lowest by chance, at the start
        ([0.98, 0.9, 0.98, 0.97, 0.95, 0.80, 0.70, 0.60, 0.97, 0.98], 1e-3),
    ],
)
def test_suggestion_needs_a_loss_that_falls_after_the_start(losses: list[float], suggestion: float | None) -> None:
    rates = [10.0**exponent for exponent in range(-9, 1)]
    assert _suggest(rates, losses) == pytest.approx(suggestion)


def test_command_draws_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "config.py"
    config.write_text("\n".join(f"{key} = {value!r}" for key, value in settings(tmp_path / "run").items()))
    out = tmp_path / "lr.png"
    assert main(["lr-find", str(config), "--iters", "30", "--out", str(out), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["picture"] == str(out)
    assert len(printed["rates"]) == len(printed["losses"]) <= 30
    with Image.open(out) as picture:
        assert picture.width > 500
    assert not (tmp_path / "run").exists()
