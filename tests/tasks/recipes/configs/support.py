"""Helpers that train the recipes for a few iterations."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from footplate.config import Config, apply_overrides
from footplate.engine import Runner
from footplate.tasks.recipes import find_config

TIMED = {"time", "data_time", "eta", "memory"}


def recipe(name: str) -> Config:
    """Returns the config of a recipe."""
    return Config.fromfile(find_config(name))


def short_runner(name: str, folder: Path, overrides: Sequence[str], **further: Any) -> Runner:
    """Returns the runner of a recipe with command-line overrides and then changes by key path."""
    cfg = recipe(name)
    apply_overrides(cfg, overrides)
    cfg.merge_from_dict({"work_dir": str(folder), **further})
    return Runner.from_cfg(cfg)


def scalars_of(folder: str | Path) -> list[dict[str, Any]]:
    """Returns the scalars of a run, without times and memory."""
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
    """Trains for four iterations, and returns the weights and the scalars."""
    short_runner(name, folder, overrides, **further).train()
    return weights_of(folder / "iter_4.pth"), scalars_of(folder)


def check_runs_are_bit_equal(name: str, folder: Path, overrides: Sequence[str]) -> list[dict[str, Any]]:
    """Checks that two runs, in `folder/a` and `folder/b`, are bit-equal; returns the scalars."""
    weights, scalars = trained(name, folder / "a", overrides)
    again, scalars_again = trained(name, folder / "b", overrides)
    assert weights.keys() == again.keys()
    assert [key for key in weights if not torch.equal(weights[key], again[key])] == []
    assert scalars == scalars_again
    return scalars


def images_in(folder: Path) -> set[str]:
    """Returns the names of the images that a run wrote."""
    return {path.name for path in folder.glob("*/vis_data/vis_image/*.png")}


def check_split_uses_its_own_items(name: str, split: str) -> None:
    """Checks the split of a data loader, and that validation and test scenes have the default style and length."""
    dataset = recipe(name)[f"{split}_dataloader"].dataset
    assert dataset.split == ("train" if split == "train" else "test")
    if split != "train":
        assert "style" not in dataset
        assert dataset.get("length", 500) == 500
