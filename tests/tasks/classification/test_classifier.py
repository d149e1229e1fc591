from typing import Any

import pytest
import torch

from footplate.data import seed_generators
from footplate.errors import ArgumentError
from footplate.registry import MODELS
from footplate.tasks.classification import ClsDataSample, ImageClassifier

PARTS: dict[str, Any] = {
    "backbone": {"type": "SmallResNet", "in_channels": 1, "widths": (4, 8), "depths": (1, 1)},
    "neck": {"type": "GlobalAveragePooling"},
    "head": {"type": "LinearClsHead", "num_classes": 3, "in_channels": 8},
}


def classifier(**arguments: Any) -> Any:
    return MODELS.build({"type": "ImageClassifier", **PARTS, **arguments})


def batch(count: int = 4) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randint(256, (1, 12, 12), generator=generator, dtype=torch.uint8) for _ in range(count)]
    return {"inputs": inputs, "data_samples": [ClsDataSample().set_gt_label(number % 3) for number in range(count)]}


def test_each_mode_gives_what_it_says() -> None:
    model = classifier().eval()
    data = model.data_preprocessor(batch())
    scores = model(data["inputs"])
    assert scores.shape == (4, 3)
    assert model(**data, mode="loss")["loss"].requires_grad
    predicted = model(**data, mode="predict")
    assert torch.allclose(torch.stack([each.pred_score for each in predicted]), scores.softmax(dim=1))


def test_without_a_head_there_are_features() -> None:
    model = classifier(head=None)
    assert [each.shape for each in model(torch.zeros(2, 1, 12, 12))] == [(2, 4), (2, 8)]
    with pytest.raises(ArgumentError, match="cannot answer 'predict'"):
        model(torch.zeros(2, 1, 12, 12), mode="predict")


def test_augments_may_stand_in_train_cfg() -> None:
    model = classifier(
        train_cfg={
            "augments": [{"type": "Mixup", "alpha": 1.0}, {"type": "CutMix", "alpha": 1.0}],
            "probs": [1.0, 0.0],
        },
        data_preprocessor={"num_classes": 3, "mean": [0], "std": [255]},
    )
    seed_generators(0)
    data = model.data_preprocessor(batch(12), True)
    assert all(abs(float(each.gt_score.sum()) - 1) < 1e-5 for each in data["data_samples"])
    assert any(0 < float(each.gt_score.max()) < 1 for each in data["data_samples"])
    assert model.data_preprocessor.mixing.probs == [1.0, 0.0]


def test_batches_are_mixed_in_one_place() -> None:
    mixing = {"augments": {"type": "Mixup", "alpha": 1.0}}
    with pytest.raises(ArgumentError, match="not by both"):
        classifier(train_cfg=mixing, data_preprocessor={"num_classes": 3, "batch_augments": mixing})


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ArgumentError, match="'tensor', 'loss' or 'predict'"):
        classifier()(torch.zeros(1, 1, 12, 12), mode="losses")


def test_a_mistake_in_a_part_is_named() -> None:
    with pytest.raises(Exception, match="did you mean 'SmallResNet'") as raised:
        ImageClassifier({"type": "SmallResnet"})
    assert getattr(raised.value, "key", "").startswith("backbone")


def test_a_few_steps_learn() -> None:
    torch.manual_seed(0)
    model = classifier(data_preprocessor={"mean": [127.5], "std": [64.0]})
    data = model.data_preprocessor(batch(6), True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(40):
        loss = model(**data, mode="loss")["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 < 1.0 < losses[0]


def test_mirror_images_may_have_a_say() -> None:
    model, pictures = classifier(flip_test=True).eval(), torch.randn(3, 1, 12, 12)
    scores = (model(pictures) + model(pictures.flip(-1))) / 2  # the head is linear
    assert not torch.allclose(scores, model(pictures), atol=1e-4)
    found = torch.stack([each.pred_score for each in model(pictures, mode="predict")])
    assert torch.allclose(found, scores.softmax(dim=1), atol=1e-6)
