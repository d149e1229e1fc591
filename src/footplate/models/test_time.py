"""Predictions from several views of each sample."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from footplate.error_context import at_key
from footplate.errors import DataError
from footplate.models.base_model import BaseModel
from footplate.registry import MODELS


class BaseTTAModel(BaseModel):
    """Lets a model predict on every view that `TestTimeAug` made of a sample, and merges the predictions.

    A subclass overrides `merge_preds`.

    Args:
        module: The model that predicts, or its dict for MODELS.
        data_preprocessor: Accepted for configs that set it; the model's own acts on each view.
    """

    def __init__(
        self, module: nn.Module | Mapping[str, Any], data_preprocessor: nn.Module | Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(data_preprocessor)
        with at_key("module"):
            self.module: Any = MODELS.build(module) if isinstance(module, Mapping) else module

    @abstractmethod
    def merge_preds(self, data_samples_list: list[list[Any]]) -> list[Any]:
        """Returns one prediction for each sample.

        Args:
            data_samples_list: For each sample its predictions, one a view.
        """

    def val_step(self, data: Any) -> list[Any]:
        """Returns the merged predictions for one batch of a validation set."""
        return self.test_step(data)

    def test_step(self, data: Any) -> list[Any]:
        """Returns the merged predictions for one batch.

        Args:
            data: As `pseudo_collate` makes it of what `TestTimeAug` gives: for each key a list of views, each a list
                of samples.

        Raises:
            DataError: The batch holds no views.
        """
        views = [self.module.test_step(view) for view in split_views(data)]
        return self.merge_preds([list(predictions) for predictions in zip(*views, strict=True)])

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the model inside."""
        return self.module(*args, **kwargs)


def split_views(data: Any) -> list[Any]:
    """Returns a batch for each view.

    Raises:
        DataError: The batch holds no views, or its parts differ in how many.

    Example:
        >>> split_views({"inputs": [["a1", "b1"], ["a2", "b2"]]})
        [{'inputs': ['a1', 'b1']}, {'inputs': ['a2', 'b2']}]
    """
    parts = list(data.values()) if isinstance(data, Mapping) else data
    if not parts or not all(isinstance(part, Sequence) and part and isinstance(part[0], Sequence) for part in parts):
        raise DataError(
            "the batch holds no views of its samples",
            found=type(data),
            notes=["the pipeline has to end with TestTimeAug, and collate_fn to be pseudo_collate"],
        )
    if len({len(part) for part in parts}) > 1:
        raise DataError("the parts of a batch hold different numbers of views", found=[len(part) for part in parts])
    if isinstance(data, Mapping):
        return [{key: part[place] for key, part in data.items()} for place in range(len(parts[0]))]
    return [tuple(part[place] for part in parts) for place in range(len(parts[0]))]
