"""The recipes train for a few iterations with small networks, and a resumed run has the same weights and metrics."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from footplate.config import Config
from footplate.config.sources import find_config, recipes
from footplate.engine import Runner
from footplate.tools.overrides import apply_overrides

TIMED = {"time", "data_time", "eta", "memory"}
FOUR_ITERATIONS = [
    "train_cfg.max_iters=4",
    "train_cfg.val_interval=2",
    "train_dataloader.batch_size=8",
    "default_hooks.checkpoint.interval=2",
    "default_hooks.logger.interval=1",
]
SCENES = [
    *FOUR_ITERATIONS,
    "val_dataloader.batch_size=2",
    "+val_dataloader.dataset.length=4",
    "default_hooks.visualization.interval=2",
    "default_hooks.visualization.max_samples=1",
]
PROBES = [
    *FOUR_ITERATIONS,
    "val_dataloader.batch_size=25",
    "param_scheduler.0.end=2",
    "param_scheduler.1.begin=2",
    "param_scheduler.1.end=4",
]
SHORT = {
    "fashion-cls": [
        *FOUR_ITERATIONS,
        "val_dataloader.batch_size=10",
        "model.backbone.widths=[4,8]",
        "model.backbone.depths=[1,1]",
        "model.head.in_channels=8",
        "model.data_preprocessor.batch_augments.probs=1.0",
        "default_hooks.visualization.max_samples=1",
    ],
    "fashion-det": [
        *SCENES,
        "model.widths=[8,12,16]",
        "model.depths=[1,1,1]",
        "model.levels=2",
        "model.head_width=8",
        "model.test_cfg.score_thr=0.0",
    ],
    "fashion-mae": [
        *PROBES,
        "model.backbone.embed_dims=16",
        "model.backbone.num_layers=1",
        "optim_wrapper.paramwise_cfg.num_layers=1",
        "model.neck.embed_dim=16",
        "model.neck.decoder_embed_dim=8",
    ],
    "fashion-seg": [*SCENES, "model.widths=[8,12]", "model.depths=[1,1]"],
    "fashion-segformer": [
        *SCENES,
        "model.config.hidden_sizes=[8,8,16]",
        "model.config.num_attention_heads=[1,1,2]",
        "model.config.depths=[1,1,1]",
        "model.config.decoder_hidden_size=16",
    ],
    "fashion-simclr": [
        *PROBES,
        "model.backbone.widths=[4,8]",
        "model.backbone.depths=[1,1]",
        "model.neck.in_channels=8",
        "model.neck.hid_channels=8",
        "+val_evaluator.2.l2=1.0",  # converges sooner
    ],
}
SCENE_IMAGES = {"val_00002_2.png", "val_00002_4.png"}
# Metrics, images and checkpoints of each run.
EXPECTED: dict[str, tuple[set[str], set[str], str]] = {
    "fashion-cls": (
        {"accuracy/top1", "accuracy/top3", "single-label/f1-score"},
        {"val_confusion_matrix_2.png", "val_confusion_matrix_4.png"},
        "best_accuracy_top1_iter_*.pth",
    ),
    "fashion-det": ({"coco/bbox_mAP", "coco/bbox_mAP_l"}, SCENE_IMAGES, "best_coco_bbox_mAP_iter_*.pth"),
    "fashion-mae": (
        {"knn/top1", "gain/knn/top1", "gain/linear/top1"},
        {"val_neighbors_0.png", "val_neighbors_4.png", "val_reconstructions_4.png"},
        "iter_4.pth",
    ),
    "fashion-seg": ({"mIoU", "mDice", "mFscore", "aAcc"}, SCENE_IMAGES, "best_mIoU_iter_*.pth"),
    "fashion-segformer": ({"mIoU"}, SCENE_IMAGES, "best_mIoU_iter_*.pth"),
    "fashion-simclr": ({"knn/top1", "gain/knn/top1", "pixels/top1"}, {"val_neighbors_4.png"}, "iter_4.pth"),
}


def recipe(name: str) -> Config:
    return Config.fromfile(find_config(name))


def trained(name: str, folder: Path, **changes: Any) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]]]:
    """Trains for four iterations, and returns the weights and the scalars without times."""
    cfg = recipe(name)
    apply_overrides(cfg, SHORT[name])
    cfg.merge_from_dict({"work_dir": str(folder), **changes})
    Runner.from_cfg(cfg).train()
    (path,) = folder.rglob("scalars.json")
    lines = map(json.loads, path.read_text().splitlines())
    scalars = [{key: value for key, value in line.items() if key.rpartition("/")[2] not in TIMED} for line in lines]
    weights: dict[str, torch.Tensor] = torch.load(folder / "iter_4.pth", weights_only=True)["state_dict"]
    return weights, scalars


@pytest.mark.parametrize("name", SHORT)
@pytest.mark.filterwarnings("default:::transformers")
def test_recipe_trains_and_resumes_bit_for_bit(name: str, tmp_path: Path) -> None:
    weights, scalars = trained(name, tmp_path / "whole")
    middle = str(tmp_path / "whole" / "iter_2.pth")
    again, scalars_again = trained(name, tmp_path / "resumed", load_from=middle, resume=True)
    assert weights.keys() == again.keys()
    assert [key for key in weights if not torch.equal(weights[key], again[key])] == []
    assert scalars[-len(scalars_again) :] == scalars_again
    metrics, images, checkpoint = EXPECTED[name]
    assert metrics <= scalars[-1].keys()
    assert images <= {path.name for path in (tmp_path / "whole").glob("*/vis_data/vis_image/*.png")}
    assert list((tmp_path / "whole").glob(checkpoint))


@pytest.mark.parametrize("name", [found.name for found in recipes()])
def test_settings_of_a_recipe_are_consistent(name: str) -> None:
    cfg = recipe(name)
    warmup, decay = cfg.param_scheduler
    iterations = cfg.train_cfg.max_iters
    assert iterations % cfg.train_cfg.val_interval == 0
    assert cfg.default_hooks.checkpoint.interval == cfg.train_cfg.val_interval
    assert (cfg.randomness.seed, warmup.begin) == (0, 0)
    # The schedules of fashion-seg overlap, as those of a first-generation config do.
    assert (decay.begin, decay.end) in ((warmup.end, iterations), (0, iterations + 1))
    datasets = cfg.val_dataloader.dataset.get("datasets", [cfg.val_dataloader.dataset])
    assert cfg.train_dataloader.dataset.split == "train"
    for dataset in datasets:
        assert dataset.split == (dataset.pipeline[-1].part if len(datasets) > 1 else "test")
        assert not {"style", "length"} & dataset.keys()


def test_lars_excludes_norms_and_biases() -> None:
    cfg = recipe("fashion-simclr")
    cfg.work_dir = "unused"
    runner = Runner.from_cfg(cfg)
    excluded = {
        id(each) for group in runner.optim_wrapper.param_groups if group["lars_exclude"] for each in group["params"]
    }
    parameters = dict(runner.model.named_parameters())
    assert {name for name, value in parameters.items() if id(value) in excluded} == {
        name for name, value in parameters.items() if value.ndim == 1
    }
