from types import SimpleNamespace
from typing import Any

import pytest
import torch

from footplate.errors import ArgumentError
from footplate.registry import HOOKS, MODELS
from footplate.tasks.selfsup import SelfSupDataSample
from footplate.visualization import Visualizer
from tests.tasks.selfsup.test_mae import CFG


class Recorder(Visualizer):
    """Keeps what it is asked to draw."""

    def __init__(self) -> None:
        super().__init__("recorder")
        self.drawn: list[tuple[str, Any, int]] = []

    def add_image(self, name: str, image: Any, step: int = 0) -> None:
        self.drawn.append((name, image, step))


def outputs(features: list[list[float]], labels: list[int], parts: list[str]) -> list[SelfSupDataSample]:
    found = []
    for row, label, part in zip(features, labels, parts, strict=True):
        sample = SelfSupDataSample(metainfo={"part": part}).set_gt_label(label)
        sample.features = torch.tensor(row, dtype=torch.float32)
        found.append(sample)
    return found


def validated(hook: Any, *batches: tuple[list[Any], list[SelfSupDataSample]]) -> list[tuple[str, Any, int]]:
    recorder, runner = Recorder(), SimpleNamespace(iter=7)
    hook.before_val_epoch(runner)
    for number, (pictures, samples) in enumerate(batches):
        hook.after_val_iter(runner, number, {"inputs": [pictures]}, samples)
    hook.after_val_epoch(runner, {})
    return recorder.drawn


def test_test_pictures_stand_beside_their_nearest_train_pictures() -> None:
    pictures = [torch.full((1, 28, 28), 10 * number, dtype=torch.uint8) for number in range(5)]
    samples = outputs([[1.0, 0], [9, 1], [0, 1], [1, 9], [1, 1]], [0, 0, 1, 0, 1], ["test", *["train"] * 3, "test"])
    hook = HOOKS.build({"type": "NeighborPictureHook", "num_queries": 2, "num_neighbors": 2})
    drawn = validated(hook, (pictures[:3], samples[:3]), (pictures[3:], samples[3:]))
    assert [(name, step) for name, _, step in drawn] == [("val_neighbors", 7)]
    page = drawn[0][1]
    middles = [[int(page[100 * row + 50, 100 * column + 50, 0]) for column in range(3)] for row in range(2)]
    assert middles[0] == [0, 10, 30]
    assert middles[1][0] == 40
    assert page[5, 150].tolist() == [0, 114, 178]


def test_without_parts_nothing_is_drawn() -> None:
    hook = HOOKS.build({"type": "NeighborPictureHook"})
    samples = outputs([[1.0, 0]], [0], ["test"])
    assert validated(hook, ([torch.zeros(1, 28, 28)], samples)) == []


def test_reconstructions_are_the_same_for_the_same_weights() -> None:
    model = MODELS.build({**CFG, "data_preprocessor": {"type": "SelfSupDataPreprocessor", "mean": [9], "std": [5]}})
    runner = SimpleNamespace(iter=3, model=model.eval())
    hook = HOOKS.build({"type": "ReconstructionPictureHook", "num_samples": 2})
    recorder, pictures = Recorder(), [torch.full((1, 12, 12), 50, dtype=torch.uint8)] * 5
    torch.manual_seed(0)
    before = torch.get_rng_state()
    for batch_idx in (0, 1, 0):
        hook.after_val_iter(runner, batch_idx, {"inputs": [pictures]}, [])
    assert torch.equal(torch.get_rng_state(), before)
    assert [(name, step) for name, _, step in recorder.drawn] == [("val_reconstructions", 3)] * 2
    first, second = (image for _, image, _ in recorder.drawn)
    assert (first == second).all()
    assert {10, 50, 128} & set(first[..., 0].ravel().tolist()) >= {50, 128}


@pytest.mark.parametrize(
    "cfg",
    [
        {"type": "NeighborPictureHook", "num_queries": 0},
        {"type": "NeighborPictureHook", "max_samples": -1},
        {"type": "ReconstructionPictureHook", "num_samples": 0},
    ],
)
def test_numbers_that_make_no_sense_are_refused(cfg: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match="whole number of at least 1"):
        HOOKS.build(cfg)
