"""A classification model: backbone, neck, head."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import Tensor, nn

from footplate.errors import ArgumentError, at_key
from footplate.models import BaseModel
from footplate.registry import MODELS
from footplate.tasks.classification.sample import ClsDataSample

_Part = Mapping[str, Any] | nn.Module


@MODELS.register_module()
class ImageClassifier(BaseModel):
    """Classification of pictures.

    Args:
        backbone: From pictures to feature maps; a module or a dict for MODELS, as are the others.
        neck: From these to the features that the head takes.
        head: With `loss(features, data_samples)` and `predict(features, data_samples)`, as LinearClsHead.
        train_cfg: `augments` in it, one or several, mix each batch as `batch_augments` of the preprocessor does.
        data_preprocessor: See `BaseModel`; a dict without `type` is a ClsDataPreprocessor's.
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

    def __init__(
        self,
        backbone: _Part,
        neck: _Part | None = None,
        head: _Part | None = None,
        train_cfg: Mapping[str, Any] | None = None,
        data_preprocessor: _Part | None = None,
        init_cfg: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        *,
        flip_test: bool = False,
    ) -> None:
        super().__init__(_with_augments(data_preprocessor, train_cfg or {}), init_cfg)
        self.backbone: nn.Module = _build("backbone", backbone)
        self.neck: nn.Module = nn.Identity() if neck is None else _build("neck", neck)
        self.head: nn.Module | None = None if head is None else _build("head", head)
        self.flip_test = flip_test

    def forward(
        self,
        inputs: Tensor,
        data_samples: Sequence[ClsDataSample] | None = None,
        mode: Literal["tensor", "loss", "predict"] = "tensor",
    ) -> Any:
        """Returns what `mode` asks for.

        Args:
            inputs: ``(N, C, H, W)``, float.
            data_samples: With `gt_label` or `gt_score` for the loss; those of a prediction are filled and returned.
            mode: "tensor": scores ``(N, num_classes)``, without a head the features; "loss": a dict of losses;
                "predict": a ClsDataSample for each picture.

        Raises:
            ArgumentError: There is no such mode, or no head to ask.
            DataError: The loss is asked for and there is no truth.
        """
        if mode not in ("tensor", "loss", "predict"):
            raise ArgumentError("a model is asked for 'tensor', 'loss' or 'predict'", key="mode", found=mode)
        features = self.extract_feat(inputs)
        if mode == "tensor":
            return features if self.head is None else self.head(features)
        if self.head is None:
            raise ArgumentError(f"a classifier without a head cannot answer '{mode}'", key="head")
        if mode == "predict" and self.flip_test:
            features = _averaged(features, self.extract_feat(inputs.flip(-1)))
        answer: Any = self.head.loss if mode == "loss" else self.head.predict
        return answer(features, data_samples)

    def extract_feat(self, inputs: Tensor) -> Any:
        """Returns what the neck makes of pictures ``(N, C, H, W)``: a tensor or a tuple of several."""
        return self.neck(self.backbone(inputs))


def _averaged(first: Any, second: Any) -> Any:
    """The mean of two tensors, or of two tuples of tensors."""
    if isinstance(first, Tensor):
        return (first + second) / 2
    return tuple(map(_averaged, first, second))


def _with_augments(preprocessor: _Part | None, train_cfg: Mapping[str, Any]) -> _Part | None:
    settings = {} if isinstance(preprocessor, nn.Module) else {"type": "ClsDataPreprocessor", **(preprocessor or {})}
    augments = train_cfg.get("augments")
    if not augments:
        return preprocessor if isinstance(preprocessor, nn.Module) else settings
    if not settings or settings.get("batch_augments"):
        raise ArgumentError(
            "batches are mixed by the preprocessor or by train_cfg, not by both", key="train_cfg.augments"
        )
    return {**settings, "batch_augments": {"augments": augments, "probs": train_cfg.get("probs")}}


def _build(name: str, part: _Part) -> nn.Module:
    if isinstance(part, nn.Module):
        return part
    with at_key(name):
        built: nn.Module = MODELS.build(part)
    return built
