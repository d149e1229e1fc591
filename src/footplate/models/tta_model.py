"""Test-time augmentation: merges the predictions for several views of each sample."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from footplate.error_context import at_key
from footplate.errors import DataError
from footplate.models.base_model import BaseModel
from footplate.registry import MODELS


class BaseTTAModel(BaseModel):
    """Runs a model on each view that `TestTimeAug` created of a sample, and merges the predictions.

    A subclass overrides `merge_preds`.

    Args:
        module: The model, or its dict for MODELS.
        data_preprocessor: Accepted for compatibility; the data preprocessor of `module` is applied to each view.
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
            data_samples_list: The predictions of each sample, one per view.
        """

    def val_step(self, data: Any) -> list[Any]:
        """Returns the merged predictions for one batch of a validation set; see `test_step`."""
        return self.test_step(data)

    def test_step(self, data: Any) -> list[Any]:
        """Returns the merged predictions for one batch.

        Args:
            data: The output of `TestTimeAug`, collated by `pseudo_collate`: for each key a list of views, each of
                them a list of samples.

        Raises:
            DataError: The batch contains no views.
        """
        views = [self.module.test_step(view) for view in split_views(data)]
        return self.merge_preds([list(predictions) for predictions in zip(*views, strict=True)])

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the wrapped model."""
        return self.module(*args, **kwargs)


def split_views(data: Any) -> list[Any]:
    """Splits a batch of several views into one batch per view.

    Raises:
        DataError: The batch contains no views, or its entries have different numbers of views.

    Example:
        >>> split_views({"inputs": [["a1", "b1"], ["a2", "b2"]]})
        [{'inputs': ['a1', 'b1']}, {'inputs': ['a2', 'b2']}]
    """
    entries = list(data.values()) if isinstance(data, Mapping) else data
    if not entries or not all(
        isinstance(entry, Sequence) and entry and isinstance(entry[0], Sequence) for entry in entries
    ):
        raise DataError(
            "the batch does not contain several views of each sample",
            found=type(data),
            notes=["End the pipeline with TestTimeAug, and set collate_fn to pseudo_collate."],
        )
    if len({len(entry) for entry in entries}) > 1:
        raise DataError(
            "the entries of a batch have different numbers of views", found=[len(entry) for entry in entries]
        )
    if isinstance(data, Mapping):
        return [{key: entry[view] for key, entry in data.items()} for view in range(len(entries[0]))]
    return [tuple(entry[view] for entry in entries) for view in range(len(entries[0]))]
