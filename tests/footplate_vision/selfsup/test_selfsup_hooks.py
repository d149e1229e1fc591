from types import SimpleNamespace
from typing import Any

import torch

from footplate.engine import BaseLoop
from footplate.registry import HOOKS, MODELS
from footplate_vision.selfsup import SelfSupDataSample
from tests.footplate_vision.recording import Recorder
from tests.footplate_vision.selfsup.model_configs import MAE_CFG

BLUE, ORANGE = [0, 114, 178], [213, 94, 0]


def outputs(features: list[list[float]], labels: list[int], parts: list[str]) -> list[SelfSupDataSample]:
    found = []
    for row, label, part in zip(features, labels, parts, strict=True):
        sample = SelfSupDataSample(metainfo={"part": part}).set_gt_label(label)
        sample.features = torch.tensor(row, dtype=torch.float32)
        found.append(sample)
    return found


def validated(hook: Any, *batches: tuple[list[Any], list[SelfSupDataSample]]) -> list[tuple[str, Any, Any]]:
    recorder, runner = Recorder(), SimpleNamespace(iter=7)
    hook.before_val_epoch(runner)
    for number, (pictures, samples) in enumerate(batches):
        hook.after_val_iter(runner, number, {"inputs": [pictures]}, samples)
    hook.after_val_epoch(runner, {})
    return recorder.drawn


def test_test_images_are_next_to_their_nearest_train_images() -> None:
    pictures = [torch.full((1, 28, 28), 10 * number, dtype=torch.uint8) for number in range(5)]
    samples = outputs([[1.0, 0], [9, 1], [0, 1], [1, 9], [1, 1]], [0, 0, 1, 0, 1], ["test", *["train"] * 3, "test"])
    hook = HOOKS.build({"type": "NeighborPictureHook", "num_queries": 2, "num_neighbors": 2})
    drawn = validated(hook, (pictures[:3], samples[:3]), (pictures[3:], samples[3:]))
    assert [(name, step) for name, _, step in drawn] == [("val_neighbors", {"step": 7})]
    page = drawn[0][1]
    middles = [[int(page[100 * row + 50, 100 * column + 50, 0]) for column in range(3)] for row in range(2)]
    assert middles[0] == [0, 10, 30]
    assert middles[1][0] == 40
    frames = [[page[100 * row + 5, 100 * column + 50].tolist() for column in range(3)] for row in range(2)]
    assert frames == [[[255] * 3, BLUE, BLUE], [[255] * 3, ORANGE, ORANGE]]


def test_reconstructions_are_the_same_for_the_same_weights() -> None:
    model = MODELS.build({**MAE_CFG, "data_preprocessor": {"type": "SelfSupDataPreprocessor", "mean": [9], "std": [5]}})
    runner = SimpleNamespace(iter=3, model=model.eval())
    hook = HOOKS.build({"type": "ReconstructionPictureHook", "num_samples": 2})
    recorder, pictures = Recorder(), [torch.full((1, 12, 12), 50, dtype=torch.uint8)] * 5
    torch.manual_seed(0)
    before = torch.get_rng_state()
    for batch_idx in (0, 1, 0):
        hook.after_val_iter(runner, batch_idx, {"inputs": [pictures]}, [])
    assert torch.equal(torch.get_rng_state(), before)
    assert [(name, step) for name, _, step in recorder.drawn] == [("val_reconstructions", {"step": 3})] * 2
    first, second = (image for _, image, _ in recorder.drawn)
    assert (first == second).all()
    assert {10, 50, 128} & set(first[..., 0].ravel().tolist()) >= {50, 128}


def hook(**arguments: Any) -> Any:
    return HOOKS.build({"type": "ValidateFirstHook", **arguments})


def runner(iteration: int = 0, **parts: Any) -> Any:
    loop = SimpleNamespace(validation_requested=False)
    return SimpleNamespace(iter=iteration, val_loop=BaseLoop, train_loop=loop, **parts)


def test_a_resumed_run_knows_the_start() -> None:
    watching, resumed, later = hook(), hook(), {"a": 3.0}
    watching.after_val_epoch(runner(0), {"a": 1.0})
    resumed.load_state_dict(watching.state_dict())
    resumed.after_val_epoch(runner(5), later)
    assert later["gain/a"] == 2.0
    unknown = {"a": 3.0}
    hook().after_val_epoch(runner(5), unknown)
    assert unknown == {"a": 3.0}
