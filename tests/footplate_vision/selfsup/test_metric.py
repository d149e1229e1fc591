import math
from typing import Any

import numpy as np
import pytest
import torch

from footplate.errors import ArgumentError, DataError
from footplate.evaluation import Evaluator
from footplate.registry import METRICS
from footplate_vision.selfsup import KNNProbe, LinearProbe, SelfSupDataSample, fit_linear


def voted(features: Any, labels: Any, query: Any, classes: int, k: int, temperature: float) -> list[float]:
    """Returns the votes for each class, computed by a loop over neighbors."""
    cosines = [float(row @ query) / math.hypot(*row) / math.hypot(*query) for row in features]
    votes = [0.0] * classes
    for at in sorted(range(len(cosines)), key=lambda place: -cosines[place])[:k]:
        votes[labels[at]] += math.exp(cosines[at] / temperature)
    return votes


@pytest.mark.parametrize("seed", range(12))
def test_neighbors_vote_as_in_a_plain_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count, classes, temperature = int(rng.integers(1, 30)), int(rng.integers(1, 5)), float(rng.uniform(0.05, 1))
    features, queries = rng.normal(size=(count, 4)), rng.normal(size=(6, 4))
    labels = rng.integers(0, rng.integers(1, classes + 1), size=count)  # some classes have nobody
    k = int(rng.integers(1, count + 1))
    a, b, c = (torch.tensor(each) for each in (features, labels, queries))
    found = KNNProbe(k, temperature).predict(a, b, c, classes)
    expected = [voted(features, labels, query, classes, k, temperature) for query in queries]
    assert found.tolist() == [votes.index(max(votes)) for votes in expected]


@pytest.mark.parametrize("seed", range(2))
def test_the_gradient_of_the_fit_is_zero(seed: int) -> None:
    rng = np.random.default_rng(seed)
    features, labels = rng.normal(size=(40, 3)), rng.integers(0, 4, size=40)
    weights, biases = fit_linear(torch.tensor(features), torch.tensor(labels), 4, l2=0.05)
    scores = features @ weights.numpy() + biases.numpy()
    likely = np.exp(scores - scores.max(axis=1, keepdims=True))
    likely /= likely.sum(axis=1, keepdims=True)
    slack = (likely - np.eye(4)[labels]) / 40
    assert np.abs(features.T @ slack + 0.05 * weights.numpy()).max() < 1e-4
    assert np.abs(slack.sum(axis=0)).max() < 1e-4


def sample(features: Any, label: int, part: str) -> SelfSupDataSample:
    found = SelfSupDataSample(metainfo={"part": part, "img_path": "a.png"}).set_gt_label(label)
    found.features = torch.as_tensor(features, dtype=torch.float32)
    return found


def evaluated(cfg: dict[str, Any], samples: list[SelfSupDataSample], data_batch: Any = None) -> dict[str, float]:
    evaluator = Evaluator(METRICS.build(cfg))
    evaluator.process(samples, data_batch)
    return evaluator.evaluate(len(samples))


@pytest.mark.parametrize("seed", range(2))
def test_probes_fit_on_train_and_evaluate_on_test(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, parts = rng.integers(0, 3, size=60), rng.choice(["train", "test"], size=60)
    features = (rng.normal(size=(60, 5)) + 1.5 * np.eye(5)[labels]).astype(np.float32)
    samples = [sample(*each) for each in zip(features, labels.tolist(), parts.tolist(), strict=True)]
    train, test = parts == "train", parts == "test"
    a, b, c = (torch.tensor(each) for each in (features[train], labels[train], features[test]))
    knn, linear = KNNProbe(5, 0.1).predict(a, b, c, 3), LinearProbe(0.1).predict(a, b, c, 3)
    truth = torch.tensor(labels[test])
    found = evaluated({"type": "KNNProbe", "k": 5, "temperature": 0.1}, samples)
    assert found == {"knn/top1": pytest.approx(100 * float((knn == truth).double().mean()))}
    found = evaluated({"type": "LinearProbe", "l2": 0.1}, samples)
    assert found == {"linear/top1": pytest.approx(100 * float((linear == truth).double().mean()))}


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([sample([1.0], 0, "train")], "no image has part='test'"),
        (
            [{"features": [0.0], "img_path": "b.png", "part": "test"}],
            "the sample of 'b.png' needs a 'gt_label', and its 'part' must be 'train' or 'test'",
        ),
        ([SelfSupDataSample()], "requires the key 'features' in each sample"),
    ],
)
def test_incomplete_samples_are_reported(samples: list[Any], message: str) -> None:
    with pytest.raises((DataError, ArgumentError), match=message):
        evaluated({"type": "KNNProbe", "k": 1}, samples)
