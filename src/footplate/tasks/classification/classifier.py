"""A classification model of backbone, neck and head."""

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
    """Classifies images with a backbone, a neck and a head.

    Args:
        backbone: Maps images to feature maps. A module or a config for MODELS, as are neck and head.
        neck: Maps feature maps to the inputs of the head.
        head: A module with `loss(features, data_samples)` and `predict(features, data_samples)`, such as LinearClsHead.
        train_cfg: One or several `augments` mix each batch, as `batch_augments` of the preprocessor does.
        data_preprocessor: See `BaseModel`; a ClsDataPreprocessor by default.
        init_cfg: See `BaseModel`.
        flip_test: Whether to average the features of the image and the flipped image for predictions.

    Raises:
        ArgumentError: Both `train_cfg` and the preprocessor define batch augmentations.

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
        """Returns scores ``(N, num_classes)`` of images ``(N, C, H, W)``, or the features if there is no head."""
        features = self.extract_feat(inputs)
        return features if self.head is None else self.head(features)

    def loss(self, inputs: Tensor, data_samples: Sequence[ClsDataSample] | None) -> dict[str, Tensor]:
        """Returns the losses of images ``(N, C, H, W)``; samples need `gt_label` or `gt_score`.

        Raises:
            ArgumentError: There is no head.
            DataError: The ground truth is missing.
        """
        losses: dict[str, Tensor] = self._head_for("loss").loss(self.extract_feat(inputs), data_samples)
        return losses

    def predict(self, inputs: Tensor, data_samples: Sequence[ClsDataSample] | None) -> list[ClsDataSample]:
        """Returns one sample with the prediction of the head for each image; creates samples if none are given.

        Raises:
            ArgumentError: There is no head.
        """
        head, features = self._head_for("predict"), self.extract_feat(inputs)
        if self.flip_test:
            features = _averaged(features, self.extract_feat(inputs.flip(-1)))
        samples: list[ClsDataSample] = head.predict(features, data_samples)
        return samples

    def extract_feat(self, inputs: Tensor) -> Any:
        """Returns the output of the neck for images ``(N, C, H, W)``: a tensor or a tuple of tensors."""
        return self.neck(self.backbone(inputs))

    def _head_for(self, mode: str) -> Any:
        if self.head is None:
            raise ArgumentError(f"a classifier without a head cannot answer '{mode}'", key="head")
        return self.head


def _averaged(first: Any, second: Any) -> Any:
    """Averages two tensors, or two tuples of tensors element by element."""
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
