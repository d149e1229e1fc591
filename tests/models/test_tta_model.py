from typing import Any

import pytest

from footplate.errors import DataError
from footplate.models import BaseModel, BaseTTAModel
from footplate.models.tta_model import split_views
from footplate.registry import MODELS


@MODELS.register_module()
class Doubling(BaseModel):
    def forward(self, inputs: Any, mode: str = "tensor") -> Any:
        return [2 * each for each in inputs] if mode == "predict" else mode


class Largest(BaseTTAModel):
    def merge_preds(self, data_samples_list: list[list[Any]]) -> list[Any]:
        return [max(views) for views in data_samples_list]


@pytest.mark.parametrize("step", ["test_step", "val_step"])
@pytest.mark.parametrize("data", [{"inputs": [[1, 5], [4, 2], [3, 3]]}, [[[1, 5], [4, 2], [3, 3]]]])
def test_predictions_of_all_views_are_merged(step: str, data: Any) -> None:
    model = Largest({"type": "Doubling"})
    assert getattr(model, step)(data) == [8, 10]
    assert model(None, mode="tensor") == "tensor"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"inputs": [1, 2]}, "does not contain several views"),
        ({}, "does not contain several views"),
        ({"inputs": [[1], [2]], "data_samples": [[1]]}, "different numbers of views"),
    ],
)
def test_batches_without_views_are_refused(data: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        split_views(data)
