from typing import Any

import numpy as np
import pytest
import torch

from footplate.errors import ArgumentError, DataError
from footplate.evaluation import Evaluator
from footplate.registry import METRICS
from footplate.tasks.selfsup import SelfSupDataSample, knn_predict, linear_predict


def sample(features: Any, label: int, part: str) -> SelfSupDataSample:
    found = SelfSupDataSample(metainfo={"part": part, "img_path": "a.png"}).set_gt_label(label)
    found.features = torch.as_tensor(features, dtype=torch.float32)
    return found


def evaluated(cfg: dict[str, Any], samples: list[SelfSupDataSample], data_batch: Any = None) -> dict[str, float]:
    evaluator = Evaluator(METRICS.build(cfg))
    evaluator.process(samples, data_batch)
    return evaluator.evaluate(len(samples))


@pytest.mark.parametrize("seed", range(20))
def test_probes_fit_on_train_and_judge_by_test(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, parts = rng.integers(0, 3, size=60), rng.choice(["train", "test"], size=60)
    features = (rng.normal(size=(60, 5)) + 1.5 * np.eye(5)[labels]).astype(np.float32)
    samples = [sample(*each) for each in zip(features, labels.tolist(), parts.tolist(), strict=True)]
    train, test = parts == "train", parts == "test"
    a, b, c = (torch.tensor(each) for each in (features[train], labels[train], features[test]))
    knn, linear = knn_predict(a, b, c, 3, k=5, temperature=0.1), linear_predict(a, b, c, 3, l2=0.1)
    truth = torch.tensor(labels[test])
    found = evaluated({"type": "KNNProbe", "k": 5, "temperature": 0.1}, samples)
    assert found == {"knn/top1": pytest.approx(100 * float((knn == truth).double().mean()))}
    found = evaluated({"type": "LinearProbe", "l2": 0.1}, samples)
    assert found == {"linear/top1": pytest.approx(100 * float((linear == truth).double().mean()))}


def test_pixels_may_be_probed_instead() -> None:
    samples = [sample([0.0], at % 2, "train" if at < 6 else "test") for at in range(8)]
    pictures = [torch.full((1, 2, 2), 200 * (at % 2) + at, dtype=torch.uint8) for at in range(8)]
    cfg = {"type": "KNNProbe", "k": 1, "of": "pixels", "prefix": "pixels"}
    pictures = [torch.cat([each, 255 - each]) for each in pictures]
    assert evaluated(cfg, samples, {"inputs": [pictures]}) == {"pixels/top1": 100.0}
    assert evaluated({**cfg, "of": "features"}, samples, {"inputs": [pictures]})["pixels/top1"] == 50.0


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([sample([1.0], 0, "train")], "has seen no 'test' picture"),
        ([sample([1.0], 0, "test")], "has seen no 'train' picture"),
        ([SelfSupDataSample(metainfo={"img_path": "b.png", "part": "test"})], "the class and the part of 'b.png'"),
        ([SelfSupDataSample().set_gt_label(1)], "the class and the part of 'a picture'"),
    ],
)
def test_what_cannot_be_probed_is_named(samples: list[SelfSupDataSample], message: str) -> None:
    with pytest.raises(DataError, match=message):
        evaluated({"type": "KNNProbe", "k": 1}, samples)


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        ({"type": "KNNProbe", "k": 0}, "k must be a whole number"),
        ({"type": "KNNProbe", "temperature": 0}, "temperature must be above 0"),
        ({"type": "KNNProbe", "of": "pixel"}, "'features' or 'pixels'"),
        ({"type": "LinearProbe", "l2": -1}, "l2 must not be negative"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(cfg: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        METRICS.build(cfg)
