"""Checks the effect of every first-generation key on a run."""

import logging
import multiprocessing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from footplate import Runner
from footplate.optim import AmpOptimWrapper
from footplate.registry import HOOKS
from footplate_openmmlab.first_generation.adapters import Hook
from tests.footplate_openmmlab.first_generation.adapters.support import old_config

CYCLIC = {"policy": "cyclic", "cyclic_times": 1, "step_ratio_up": 0.4}
RISE, FALL = {**CYCLIC, "target_ratio": (10, 1e-4)}, {**CYCLIC, "target_ratio": (0.85 / 0.95, 1)}
# Learning rates and momenta of twelve iterations with mmcv 1.7.2.
ADAM = {"type": "Adam", "lr": 0.01, "betas": (0.8, 0.9)}
ADAM_MOMENTA = [0.8, 0.787668, 0.757895, 0.728122, 0.715789, 0.718995, 0.728122, 0.741782, 0.757895, 0.774008, 0.787668]
SGD_MOMENTA = [0.9, 0.886126, 0.852632, 0.819137, 0.805263, 0.808869, 0.819137, 0.834504, 0.852632, 0.870759, 0.886126]
RATES = [0.1, 0.231802, 0.55, 0.868198, 1.0, 0.96194, 0.853555, 0.691345, 0.500005, 0.308665, 0.146455, 0.03807]


@HOOKS.register_module()
class RatesOfKeys(Hook):
    """Records the learning rate and momentum of each iteration."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.momenta: list[float] = []

    def after_train_iter(self, runner: Any) -> None:  # type: ignore[override]
        self.rates.append(runner.current_lr()[0])
        self.momenta.append(runner.current_momentum()[0])


class Key(NamedTuple):
    """A key with a value, a check of a run with it, and further keys."""

    name: str
    value: Any
    holds: Callable[[Runner], Any]
    context: dict[str, Any] = {}


def hook(runner: Runner, name: str) -> Any:
    return next(each for each in runner.hooks if type(each).__name__ == name)


def steps(runner: Runner) -> int:
    return int(next(iter(runner.optim_wrapper.optimizer.state.values()))["step"])


def saved(runner: Runner) -> list[str]:
    return sorted(path.name for path in Path(runner.work_dir).glob("*_*.pth"))


def momenta(expected: list[float]) -> Callable[[Runner], bool]:
    return lambda runner: hook(runner, "RatesOfKeys").momenta[:11] == pytest.approx(expected, abs=1e-6)


def evaluations(runner: Runner) -> list[dict[str, Any]]:
    return [
        {key: value for key, value in each.items() if key != "logger"}
        for each in runner.val_dataloader.dataset.evaluations
    ]


DATA = old_config("")["data"]
KEYS = [
    Key(
        "optimizer_config",
        {"type": "GradientCumulativeOptimizerHook", "cumulative_iters": 5},
        lambda runner: steps(runner) == 3,
        {"optimizer": ADAM},
    ),
    Key("fp16", {"loss_scale": 512.0}, lambda runner: type(runner.optim_wrapper) is AmpOptimWrapper),
    Key("lr_config", RISE, lambda runner: hook(runner, "RatesOfKeys").rates == pytest.approx(RATES, abs=1e-5)),
    Key("momentum_config", FALL, momenta(SGD_MOMENTA)),
    Key("momentum_config", FALL, momenta(ADAM_MOMENTA), {"optimizer": ADAM}),
    Key("checkpoint_config", {"interval": 1, "max_keep_ckpts": 1}, lambda runner: saved(runner) == ["epoch_3.pth"]),
    Key(
        "evaluation",
        {"interval": 2, "start": 2, "metric": "mIoU", "classwise": True, "save_best": "accuracy", "rule": "greater"},
        lambda runner: (
            evaluations(runner) == [{"results": 8, "metric": "mIoU", "classwise": True}] * 2
            and len([name for name in saved(runner) if name.startswith("best_accuracy_epoch_")]) == 1
        ),
    ),
    Key(
        "data",
        {**DATA, "workers_per_gpu": 1, "train_dataloader": {"samples_per_gpu": 16}},
        lambda runner: (runner.train_dataloader.num_workers, runner.iter) == (1, 3),
    ),
]


@pytest.fixture(autouse=True)
def _restored_global_state() -> Iterator[None]:
    benchmark, level = torch.backends.cudnn.benchmark, logging.getLogger("footplate").level
    yield
    torch.backends.cudnn.benchmark = benchmark
    logging.getLogger("footplate").setLevel(level)


def trained(tmp_path: Path, **changes: Any) -> Runner:
    cfg = old_config(tmp_path, custom_hooks=[{"type": "RatesOfKeys"}])
    runner = Runner.from_cfg({key: value for key, value in {**cfg, **changes}.items() if value is not None})
    runner.train()
    return runner


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.name)
def test_effect_of_key(tmp_path: Path, key: Key) -> None:
    assert key.holds(trained(tmp_path, **{**key.context, key.name: key.value}))


def test_process_settings_are_applied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(multiprocessing, "set_start_method", lambda method, force: calls.append((method, force)))
    monkeypatch.setattr("cv2.setNumThreads", calls.append)
    trained(tmp_path, mp_start_method="spawn", opencv_num_threads=3)
    assert calls == [("spawn", True), 3]
