"""A classification model: backbone, neck, head."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from footplate.error_context import with_origins
from footplate.errors import ArgumentError
from footplate.registry import MODELS
from footplate.tasks.classification.sample import ClsDataSample
from footplate.tasks.model import Part, TaskModel, build_part


@MODELS.register_module()
class ImageClassifier(TaskModel):
    """Classification of pictures.

    Args:
        backbone: From pictures to feature maps; a module or a dict for MODELS, as are the others.
        neck: From these to the features that the head takes.
        head: With `loss(features, data_samples)` and `predict(features, data_samples)`, as LinearClsHead.
        train_cfg: `augments` in it, one or several, mix each batch as `batch_augments` of the preprocessor does.
        data_preprocessor: See `BaseModel`; usually a ClsDataPreprocessor, which None gives, too.
        init_cfg: See `BaseModel`.
        flip_test: Predict from features averaged over the picture and its mirror image.

    Raises:
        ArgumentError: `train_cfg` and the preprocessor both mix batches.

    Example:
        >>> import torch
        >>> model = ImageClassifier(
        ...     backbone=dict(type="SmallResNet", in_channels=1),
        ...     neck=dict(type="GlobalAveragePooling"),
        ...     head=dict(type="LinearClsHead", num_classes=10, in_channels=128),
        ... )
        >>> model(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """

    usual_preprocessor = "ClsDataPreprocessor"

    def __init__(
        self,
        backbone: Part,
        neck: Part | None = None,
        head: Part | None = None,
        train_cfg: Mapping[str, Any] | None = None,
        data_preprocessor: Part | None = None,
        init_cfg: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        *,
        flip_test: bool = False,
    ) -> None:
        super().__init__(_with_augments(data_preprocessor, train_cfg or {}), init_cfg)
        self.backbone: nn.Module = build_part("backbone", backbone)
        self.neck: nn.Module = nn.Identity() if neck is None else build_part("neck", neck)
        self.head: nn.Module | None = None if head is None else build_part("head", head)
        self.flip_test = flip_test

    def outputs(self, inputs: Tensor) -> Any:
        """Returns scores ``(N, num_classes)`` of pictures ``(N, C, H, W)``, without a head the features."""
        features = self.extract_feat(inputs)
        return features if self.head is None else self.head(features)

    def loss(self, inputs: Tensor, data_samples: Sequence[ClsDataSample] | None) -> dict[str, Tensor]:
        """Returns the head's losses of pictures ``(N, C, H, W)``; samples hold `gt_label` or `gt_score`.

        Raises:
            ArgumentError: There is no head.
            DataError: There is no truth.
        """
        losses: dict[str, Tensor] = self._head_for("loss").loss(self.extract_feat(inputs), data_samples)
        return losses

    def predict(self, inputs: Tensor, data_samples: Sequence[ClsDataSample] | None) -> list[ClsDataSample]:
        """Writes the head's prediction into a sample for each picture, new ones where there are none.

        Raises:
            ArgumentError: There is no head.
        """
        head, features = self._head_for("predict"), self.extract_feat(inputs)
        if self.flip_test:
            features = _averaged(features, self.extract_feat(inputs.flip(-1)))
        samples: list[ClsDataSample] = head.predict(features, data_samples)
        return samples

    def extract_feat(self, inputs: Tensor) -> Any:
        """Returns what the neck makes of pictures ``(N, C, H, W)``: a tensor or a tuple of several."""
        return self.neck(self.backbone(inputs))

    def _head_for(self, mode: str) -> Any:
        if self.head is None:
            raise ArgumentError(f"a classifier without a head cannot answer '{mode}'", key="head")
        return self.head


def _averaged(first: Any, second: Any) -> Any:
    """The mean of two tensors, or of two tuples of tensors."""
    if isinstance(first, Tensor):
        return (first + second) / 2
    return tuple(map(_averaged, first, second))


def _with_augments(preprocessor: Part | None, train_cfg: Mapping[str, Any]) -> Part | None:
    augments = train_cfg.get("augments")
    if not augments:
        return {} if preprocessor is None else preprocessor
    if isinstance(preprocessor, nn.Module) or (preprocessor or {}).get("batch_augments"):
        raise ArgumentError(
            "batches are mixed by the preprocessor or by train_cfg, not by both", key="train_cfg.augments"
        )
    mixing = with_origins({"augments": augments, "probs": train_cfg.get("probs")}, train_cfg)
    return with_origins({**(preprocessor or {}), "batch_augments": mixing}, preprocessor)
