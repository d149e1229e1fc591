"""Several processes compute the same metrics as one."""

import math
import multiprocessing
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

from footplate.data import build_dataloader
from footplate.evaluation import Evaluator

CLASSES = ("bag", "shoe", "shirt")
METRICS = (
    {"type": "IoUMetric", "iou_metrics": ["mIoU", "mDice", "mFscore"], "classwise": True},
    {"type": "CocoMetric", "metric": ["bbox", "segm"]},
    {"type": "Accuracy", "topk": (1, 2)},
    {"type": "SingleLabelMetric", "items": ("precision", "recall", "f1-score", "support"), "average": None},
    {"type": "ConfusionMatrix"},
)


def sample(index: int) -> dict[str, Any]:
    """Returns the prediction for an image, which is a function of its number."""
    drawn = np.random.default_rng(index)
    score = drawn.random(3)
    return {
        "img_id": index,
        "ori_shape": (16, 16),
        "pred_sem_seg": {"data": drawn.integers(0, 3, (1, 8, 8))},
        "gt_sem_seg": {"data": drawn.choice([0, 1, 2, 255], (1, 8, 8))},
        "pred_instances": instances(drawn, int(drawn.integers(0, 4)), scored=True),
        "gt_instances": instances(drawn, int(drawn.integers(0, 3)), scored=False),
        "pred_score": torch.from_numpy(score / score.sum()),
        "gt_label": torch.tensor([int(drawn.integers(3))]),
    }


def instances(drawn: np.random.Generator, count: int, *, scored: bool) -> dict[str, Any]:
    corners = drawn.integers(0, 8, (count, 2))
    boxes = np.concatenate([corners, corners + drawn.integers(1, 8, (count, 2))], axis=1)
    masks = np.zeros((count, 16, 16), dtype=bool)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = True
    found = {"bboxes": boxes.astype(np.float32), "labels": drawn.integers(0, 3, count), "masks": masks}
    return {**found, "scores": drawn.random(count)} if scored else found


def measured(size: int, *, round_up: bool, device: str = "cpu") -> dict[str, Any]:
    evaluator = Evaluator([{**metric, "collect_device": device} for metric in METRICS])
    evaluator.dataset_meta = {"classes": CLASSES}
    sampler = {"type": "DefaultSampler", "shuffle": False, "round_up": round_up}
    loader = build_dataloader({"dataset": list(range(size)), "sampler": sampler, "batch_size": 4})
    for batch in loader:
        evaluator.process([sample(index) for index in batch], batch)
    return evaluator.evaluate(size)


def settings(size: int) -> list[dict[str, Any]]:
    both: list[dict[str, Any]] = [{"round_up": True}, {"round_up": False, "device": "gpu"}]
    return both if size % 2 else both[::-1]


def measure_on_rank(rank: int, worlds: Sequence[int], sizes: Sequence[int], every: bool, folder: Path) -> None:
    torch.set_num_threads(1)
    for world in worlds:
        if rank < world:
            dist.init_process_group("gloo", init_method=f"file://{folder}/{world}", rank=rank, world_size=world)
            chosen = {size: settings(size)[: 2 if every else 1] for size in sizes}
            found = {size: [measured(size, **each) for each in several] for size, several in chosen.items()}
            (folder / f"{world}-{rank}.pkl").write_bytes(pickle.dumps(found))
            dist.destroy_process_group()


def check(worlds: Sequence[int], sizes: Sequence[int], folder: Path, *, every: bool, seconds: float) -> None:
    """Starts processes once, which then join groups of several sizes one after the other."""
    context = multiprocessing.get_context("fork")
    ranks = [
        context.Process(target=measure_on_rank, args=(rank, worlds, sizes, every, folder))
        for rank in range(max(worlds))
    ]
    for process in ranks:
        process.start()
    alone = {size: measured(size, round_up=True) for size in sizes}
    for process in ranks:
        process.join(seconds)
    assert [process.exitcode for process in ranks] == [0] * len(ranks)
    for world in worlds:
        for rank in range(world):
            found = pickle.loads((folder / f"{world}-{rank}.pkl").read_bytes())
            for size in sizes:
                for each in found[size]:
                    assert_equal(each, alone[size], f"{size} samples on rank {rank} of {world}")


def assert_equal(found: dict[str, Any], wanted: dict[str, Any], where: str) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(found[name], value), (where, name)
        else:
            same = found[name] == value or (isinstance(value, float) and math.isnan(value) and math.isnan(found[name]))
            assert same, (where, name, found[name], value)


def test_several_processes_measure_what_one_does(tmp_path: Path) -> None:
    check([2, 3], [1, 2, 7, 50], tmp_path, every=False, seconds=100)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_up_to_eight_processes_measure_what_one_does(tmp_path: Path) -> None:
    check([4, 8], [1, 7, 8, 9, 31], tmp_path, every=True, seconds=280)
