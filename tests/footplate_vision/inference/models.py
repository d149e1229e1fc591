"""Checkpoints of the recipes without training, and their test data as files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from footplate.checkpoint import save_checkpoint
from footplate.config import Config
from footplate.config.sources import find_config
from footplate.engine import Runner

SHORT = {"FashionScenes": {"length": 6}, "FashionInstances": {"length": 6}, "FashionItems": {}}


def recipe(name: str, work_dir: Path) -> Config:
    """Returns the config of a recipe with a few test samples and without files of a visualizer."""
    cfg = Config.fromfile(find_config(name))
    cfg["work_dir"] = str(work_dir)
    cfg["test_dataloader"] = cfg["test_dataloader"].copy()
    _shorten(cfg["test_dataloader"]["dataset"])
    cfg["test_dataloader"]["batch_size"] = 4
    cfg["visualizer"]["vis_backends"] = None
    return cfg


def save_untrained(cfg: Config, path: Path, *, recorded: str | None = None) -> Runner:
    """Saves the model of a config with random weights and statistics; returns a runner that would test it."""
    torch.manual_seed(0)
    runner = Runner.from_cfg(cfg)
    for module in runner.model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # so that eval mode does more than pass values on
            torch.nn.init.normal_(module.running_mean, std=0.1)  # type: ignore[arg-type]
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    metainfo = dict(runner.test_dataloader.dataset.metainfo)
    content = {"cfg": cfg.pretty_text if recorded is None else recorded, "dataset_meta": metainfo}
    save_checkpoint({"meta": content, "state_dict": runner.model.state_dict()}, path)
    runner.resume_plan.load_from = str(path)
    return runner


def save_untrained_recipe(name: str, folder: Path) -> Path:
    """Saves the untrained model of a recipe (`model.pth`) and six pictures (`images`). Returns the folder."""
    runner = save_untrained(recipe(name, folder / "work"), folder / "model.pth")
    save_pictures(runner.test_dataloader.dataset, folder / "images", 6)
    return folder


def save_pictures(dataset: Any, folder: Path, count: int | None = None) -> list[str]:
    """Saves the images of a dataset of the recipes, or the first `count` of them, as PNG files."""
    folder.mkdir()
    paths = [folder / f"{index:03d}.png" for index in range(count or len(dataset))]
    for index, path in enumerate(paths):
        Image.fromarray(dataset.sample(index)["img"]).save(path)
    return [str(path) for path in paths]


def _shorten(dataset: Mapping[str, Any]) -> None:
    for each in dataset.get("datasets", (dataset,)):
        each.update(SHORT[each["type"]])
