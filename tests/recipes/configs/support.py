"""Runs of seconds of the shipped recipes."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from footplate.config import Config, apply_overrides
from footplate.engine import Runner
from footplate.recipes import find_config

TIMED = {"time", "data_time", "eta", "memory"}


def recipe(name: str) -> Config:
    """Returns the config of a recipe."""
    return Config.fromfile(find_config(name))


def short_runner(name: str, folder: Path, overrides: Sequence[str], **further: Any) -> Runner:
    """Returns the runner of a recipe with changes: those of a command line first, then others by key path."""
    cfg = recipe(name)
    apply_overrides(cfg, overrides)
    cfg.merge_from_dict({"work_dir": str(folder), **further})
    return Runner.from_cfg(cfg)


def scalars_of(folder: str | Path) -> list[dict[str, Any]]:
    """Returns the lines of a run's scalars, below its folder, without those values that tell of its time."""
    (path,) = Path(folder).rglob("scalars.json")
    lines = map(json.loads, path.read_text().splitlines())
    return [{name: value for name, value in line.items() if name.rpartition("/")[2] not in TIMED} for line in lines]


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    """Returns the weights of a checkpoint."""
    weights: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return weights


def trained(
    name: str, folder: Path, overrides: Sequence[str], **further: Any
) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]]]:
    """Trains four iterations, and returns weights and scalars."""
    short_runner(name, folder, overrides, **further).train()
    return weights_of(folder / "iter_4.pth"), scalars_of(folder)


def check_a_second_run_is_the_same(name: str, folder: Path, overrides: Sequence[str]) -> list[dict[str, Any]]:
    """Trains twice, in `folder/a` and `folder/b`; returns the scalars."""
    weights, scalars = trained(name, folder / "a", overrides)
    again, scalars_again = trained(name, folder / "b", overrides)
    assert weights.keys() == again.keys()
    assert [key for key in weights if not torch.equal(weights[key], again[key])] == []
    assert scalars == scalars_again
    return scalars


def pictures_in(folder: Path) -> set[str]:
    """Returns the names of the pictures that a run drew."""
    return {path.name for path in folder.glob("*/vis_data/vis_image/*.png")}


def check_items_are_apart(name: str, split: str) -> None:
    """Checks that scenes to train on show items of their own, and that the others are the same for everybody."""
    dataset = recipe(name)[f"{split}_dataloader"].dataset
    assert dataset.split == ("train" if split == "train" else "test")
    if split != "train":
        assert "style" not in dataset
        assert dataset.get("length", 500) == 500
