from pathlib import Path
from typing import Any

import pytest
import torch

from footplate.cli.main import main
from footplate.config import Config
from footplate.config.sources import find_config
from footplate.engine import Runner
from footplate.tools.overrides import apply_overrides
from tests.support import json_lines

OLD = Path(__file__).with_name("fashion-seg-v0.py")
# Overrides for a short run with a small network and few scenes, for each generation.
SMALL = ["model.widths=[8,12]", "model.depths=[1,1]"]
SECOND = [
    *SMALL,
    "train_cfg.max_iters=6",
    "train_cfg.val_interval=3",
    "param_scheduler.1.end=7",
    "train_dataloader.batch_size=4",
    "+val_dataloader.dataset.length=4",
    "default_hooks.checkpoint.interval=3",
    "default_hooks.logger.interval=2",
    "log_processor.window_size=2",
    "+log_processor.mean_pattern='.*(?<!lr)$'",  # first-generation loggers average all values but learning rates
]
FIRST = [
    *SMALL,
    "runner.max_iters=6",
    "evaluation.interval=3",
    "data.samples_per_gpu=4",
    "+data.val.length=4",
    "checkpoint_config.interval=3",
    "log_config.interval=2",
]
TIMES = ("time", "data_time", "val/time", "val/data_time", "memory", "exp_name")


def trained(folder: Path, cfg: Config, overrides: list[str]) -> Path:
    apply_overrides(cfg, overrides)
    cfg["work_dir"], cfg["log_level"] = str(folder), "WARNING"
    Runner.from_cfg(cfg).train()
    return folder


def scalars(folder: Path) -> list[dict[str, Any]]:
    lines = json_lines(next(folder.rglob("scalars.json")))
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


def compared_values(value: Any, path: str = "") -> dict[str, Any]:
    """Returns the values of a checkpoint by path, except names, times and values of the config."""
    if isinstance(value, dict):
        parts = [compared_values(item, f"{path}/{key}") for key, item in value.items()]
        return {key: item for part in parts for key, item in part.items()}
    if isinstance(value, (list, tuple)):
        return {
            key: item
            for place, each in enumerate(value)
            for key, item in compared_values(each, f"{path}/{place}").items()
        }
    is_ignored = any(part in path for part in ("time", "cfg", "experiment_name", "memory", "ckpt", "/best/", "/kept"))
    return {} if is_ignored or path.startswith("/run/hooks") else {path: value}


def same(first: Any, second: Any) -> bool:
    return torch.equal(first, second) if isinstance(first, torch.Tensor) else bool(first == second)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Trains fashion-seg, fashion-seg-v0 and the migrated fashion-seg-v0; returns their folders."""
    folder = tmp_path_factory.mktemp("runs")
    assert main(["migrate", str(OLD), "-o", str(folder / "migrated.py")]) == 0
    migrated = ["log_processor.window_size=2", "log_level=WARNING"]
    again = [each for each in SECOND if "log_processor" not in each and "+val" not in each] + migrated
    return {
        "second": trained(folder / "second", Config.fromfile(find_config("fashion-seg")), SECOND),
        "first": trained(folder / "first", Config.fromfile(OLD), FIRST),
        "migrated": trained(
            folder / "migrated",
            Config.fromfile(folder / "migrated.py"),
            [*again, "+val_dataloader.dataset.dataset.length=4"],
        ),
    }


@pytest.mark.parametrize("other", ["first", "migrated"])
def test_weights_and_scalars_are_equal(runs: dict[str, Path], other: str) -> None:
    for name in ("iter_3.pth", "iter_6.pth"):
        weights, expected = (torch.load(runs[run] / name, weights_only=True)["state_dict"] for run in (other, "second"))
        assert weights.keys() == expected.keys()
        assert all(torch.equal(weights[key], expected[key]) for key in expected)
    found = scalars(runs["second"])
    assert [line["step"] for line in found] == [2, 3, 4, 6, 6]
    assert scalars(runs[other]) == found


def test_checkpoints_are_equal_except_for_names(runs: dict[str, Path]) -> None:
    name = "iter_6.pth"
    first, second = (compared_values(torch.load(runs[run] / name, weights_only=True)) for run in ("first", "second"))
    own = ("/meta/CLASSES", "/meta/PALETTE")
    assert [path for path in first if path not in second and not path.startswith(own)] == []
    differing = [path for path in second if path not in first or not same(first[path], second[path])]
    assert differing == []
