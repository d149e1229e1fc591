from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from footplate.errors import UnknownNameError
from footplate.tasks.selfsup import SelfSupDataSample
from footplate.tasks.selfsup.selfsup_models import BaseSelfSup


class Flat(BaseSelfSup):
    """Features are the pixels, twice as great."""

    def extract_feat(self, inputs: Tensor) -> Tensor:
        return 2 * inputs.flatten(1)

    def loss(self, inputs: Sequence[Tensor], data_samples: Sequence[SelfSupDataSample] | None) -> dict[str, Tensor]:
        return {"loss": inputs[1].mean()}


def model(**parts: Any) -> Flat:
    return Flat(**{"backbone": nn.Identity(), "neck": nn.Identity(), "head": nn.Identity(), **parts})


def test_features_are_those_of_the_first_view() -> None:
    views = [torch.ones(2, 1, 2, 2, dtype=torch.float16), torch.zeros(2, 1, 2, 2)]
    assert torch.equal(model()(views), torch.full((2, 4), 2.0, dtype=torch.float16))
    given = [SelfSupDataSample(), SelfSupDataSample()]
    found = model()(views, given, mode="predict")
    assert found[0] is given[0]
    assert found[1].features.tolist() == [2.0] * 4
    assert found[1].features.dtype == torch.float32
    assert len(model()(views, mode="predict")) == 2


def test_a_sample_for_each_picture() -> None:
    with pytest.raises(ValueError, match="zip"):
        model()([torch.ones(2, 1, 2, 2)], [SelfSupDataSample()], mode="predict")


@pytest.mark.parametrize("part", ["backbone", "neck", "head"])
def test_a_mistake_in_a_part_is_named(part: str) -> None:
    with pytest.raises(UnknownNameError) as raised:
        model(**{part: {"type": "SmallResnet"}})
    assert raised.value.key == f"{part}.type"
