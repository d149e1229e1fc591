from typing import Any

import numpy as np
import pytest
import torch

from footplate.data import seed_generators
from footplate_vision.classification import CutMix, Mixup, RandomBatchAugment


def batch(count: int = 6, size: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    inputs = torch.arange(count, dtype=torch.float32).reshape(-1, 1, 1, 1).expand(count, 2, size, size).clone()
    return inputs, torch.eye(count)


def test_mixup_uses_the_same_weights_for_images_and_labels() -> None:
    inputs, scores = batch(3)
    mixed, truth = Mixup(alpha=1.0).mix(inputs, scores, torch.tensor([1, 2, 0]), 0.75)
    assert mixed[:, 0, 0, 0].tolist() == [0.25, 1.25, 1.5]
    assert truth.tolist() == [[0.75, 0.25, 0], [0, 0.75, 0.25], [0.25, 0, 0.75]]


@pytest.mark.parametrize("seed", range(5))
def test_cutmix_mixes_the_truth_by_area(seed: int) -> None:
    seed_generators(seed)
    inputs, scores = batch()
    mixed, truth = CutMix(alpha=1.0)(inputs, scores)
    for number in range(6):
        values, counts = np.unique(mixed[number, 0].numpy(), return_counts=True)
        areas = dict(zip(values.astype(int).tolist(), (counts / 64).tolist(), strict=True))
        assert {at: share for at, share in enumerate(truth[number].tolist()) if share} == pytest.approx(areas)


@pytest.mark.parametrize(
    ("probs", "expected"), [(None, (0.5, 0.5, 0)), (0.0, (0, 0, 1)), ([0.2, 0.3], (0.2, 0.3, 0.5))]
)
def test_at_most_one_augmentation_is_applied(probs: Any, expected: tuple[float, float, float]) -> None:
    seed_generators(0)
    seen = {"first": 0, "second": 0, "none": 0}

    def count(name: str) -> Any:
        def augment(inputs: Any, scores: Any) -> Any:
            seen[name] += 1
            return inputs, scores

        return augment

    augments = [count("first")] if probs == 0.0 else [count("first"), count("second")]
    mixing = RandomBatchAugment(augments, probs)
    for _ in range(1000):
        mixing(*batch(2))
    seen["none"] = 1000 - seen["first"] - seen["second"]
    assert [value / 1000 for value in seen.values()] == pytest.approx(expected, abs=0.05)
