"""Defines the image classifier, its linear head, and the loss with label smoothing."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from footplate.checks import check_count, check_number
from footplate.errors import ArgumentError, DataError
from footplate.models import BaseModule
from footplate.models.base_module import InitCfg
from footplate.registry import MODELS
from footplate_vision.classification.data import ClsDataSample, labels_of
from footplate_vision.classification.metric import rank_of_truth
from footplate_vision.task_base import Part, TaskModel, build_part, check_truth, features_of, image_name

Features = Tensor | Sequence[Tensor]
Samples = Sequence[ClsDataSample] | None


@MODELS.register_module()
class ImageClassifier(TaskModel):
    """Classifies images with a backbone, a neck and a head.

    Args:
        backbone: Maps images to feature maps. `backbone`, `neck` and `head` are modules or configs for MODELS.
        neck: Maps feature maps to the inputs of the head. By default, the head takes the feature maps.
        head: A module with `loss(features, data_samples)` and `predict(features, data_samples)`, such as LinearClsHead.
            Without a head, the model only computes features.
        data_preprocessor: See `BaseModel`; a ClsDataPreprocessor by default.
        init_cfg: See `BaseModel`.
        flip_test: Whether to average the features of the image and its flipped copy when predicting.

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
        data_preprocessor: Part | None = None,
        init_cfg: InitCfg = None,
        *,
        flip_test: bool = False,
    ) -> None:
        super().__init__({} if data_preprocessor is None else data_preprocessor, init_cfg)
        self.backbone = build_part("backbone", backbone)
        self.neck = nn.Identity() if neck is None else build_part("neck", neck)
        self.head: Any = None if head is None else build_part("head", head)
        self.flip_test = flip_test

    def outputs(self, inputs: Tensor) -> Any:
        """Returns scores of shape ``(N, num_classes)`` for a batch of images, or the features if there is no head."""
        features = self.extract_feat(inputs)
        return features if self.head is None else self.head(features)

    def loss(self, inputs: Tensor, data_samples: Samples) -> dict[str, Tensor]:
        """Returns the losses for images of shape ``(N, C, H, W)``. Each sample needs `gt_label` or `gt_score`."""
        return self._required_head().loss(self.extract_feat(inputs), data_samples)  # type: ignore[no-any-return]

    def predict(self, inputs: Tensor, data_samples: Samples) -> list[ClsDataSample]:
        """Adds the prediction to each image's sample and returns the samples. Creates samples if none are passed."""
        head = self._required_head()
        return head.predict(self._features_for_test(inputs), data_samples)  # type: ignore[no-any-return]

    def _required_head(self) -> Any:
        if self.head is None:
            raise ArgumentError(
                "training and predicting need a head, but the ImageClassifier has none", key="model.head"
            )
        return self.head

    def predicted_tensors(self, inputs: Tensor) -> dict[str, Any]:
        """Returns `probabilities` and `labels`, or `features` if there is no head.

        `probabilities` have shape ``(N, C)``, and `labels` have shape ``(N,)``.
        """
        features = self._features_for_test(inputs)
        if self.head is None:
            return {"features": features}
        scores = self.head(features)
        return {"probabilities": scores.softmax(dim=1), "labels": scores.argmax(dim=1)}

    def _features_for_test(self, inputs: Tensor) -> Any:
        features = self.extract_feat(inputs)
        return _averaged(features, self.extract_feat(inputs.flip(-1))) if self.flip_test else features

    def extract_feat(self, inputs: Tensor) -> Any:
        """Returns the neck's output for images of shape ``(N, C, H, W)``: a tensor or a tuple of tensors."""
        output = self.backbone(inputs)
        takes_features = isinstance(self.neck, (nn.Identity, GlobalAveragePooling))  # an own neck may take any output
        return self.neck(features_of(output) if takes_features else output)


def _averaged(first: Any, second: Any) -> Any:
    """Averages two tensors, or two tuples of tensors element by element."""
    if isinstance(first, Tensor):
        return (first + second) / 2
    return tuple(map(_averaged, first, second))


@MODELS.register_module()
class GlobalAveragePooling(nn.Module):
    """Averages feature maps over their spatial dimensions."""

    def forward(self, features: Features) -> Tensor | tuple[Tensor, ...]:
        """Averages feature maps of shape ``(N, C, H, W)`` to shape ``(N, C)``. For a sequence, returns a tuple."""
        if not isinstance(features, Tensor):
            return tuple(each.mean(dim=(2, 3)) for each in features)
        if features.ndim != 4:
            raise ArgumentError(
                "GlobalAveragePooling needs feature maps of shape (N, C, H, W)",
                key="model.neck",
                found=tuple(features.shape),
                notes=["If the backbone returns vectors, set neck=None in the model."],
            )
        return features.mean(dim=(2, 3))


@MODELS.register_module()
class LinearClsHead(BaseModule):
    """Computes class scores with one linear layer.

    Args:
        num_classes: The number of classes.
        in_channels: The number of input channels.
        loss: A module or a config for MODELS. The module takes scores ``(N, C)`` and labels ``(N,)`` or soft labels
            ``(N, C)``. The default is cross entropy.
        topk: The values of k for the training accuracy.
        cal_acc: Whether to log the top-k accuracy during training.
        init_cfg: See `BaseModule`; by default, weights are normally distributed with a standard deviation of 0.01.

    Raises:
        ArgumentError: `num_classes` is not positive, a value of k is not between 1 and `num_classes`, or the loss does
            not have one weight per class.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        loss: Mapping[str, Any] | nn.Module | None = None,
        topk: int | Sequence[int] = (1,),
        cal_acc: bool = False,
        init_cfg: InitCfg = None,
    ) -> None:
        super().__init__(init_cfg or {"type": "Normal", "layer": "Linear", "std": 0.01})
        self.topk = (topk,) if isinstance(topk, int) else tuple(topk)
        self.num_classes = check_count("num_classes", num_classes)
        for k in self.topk:
            check_count("topk", k, most=num_classes)
        self.cal_acc = cal_acc
        self.fc = nn.Linear(in_channels, num_classes)
        self.loss_module = LabelSmoothLoss(0.0) if loss is None else build_part("loss", loss)
        weights = self.loss_module.class_weight if isinstance(self.loss_module, LabelSmoothLoss) else None
        if weights is not None and len(weights) != num_classes:
            problem = f"class_weight must contain one weight for each of the {num_classes} classes"
            raise ArgumentError(problem, key="loss.class_weight", found=weights.tolist())

    def forward(self, features: Features) -> Tensor:
        """Returns the class scores for features, or for the last item of a sequence of features.

        The features have shape ``(N, in_channels)``, and the scores have shape ``(N, num_classes)``. Raises an
        ArgumentError for feature maps.
        """
        features = features if isinstance(features, Tensor) else features[-1]
        if features.ndim == 4:
            raise ArgumentError(
                "LinearClsHead needs features of shape (N, in_channels)",
                key="model.neck",
                found=tuple(features.shape),
                notes=["Set neck=dict(type='GlobalAveragePooling') in the model."],
            )
        scores: Tensor = self.fc(features)
        return scores.float()  # compute losses in float32 even under autocast

    def loss(self, features: Features, data_samples: Samples) -> dict[str, Tensor]:
        """Returns `loss` and, if `cal_acc` is set, `accuracy_top-k` in percent.

        Uses `gt_score` if all samples have it, otherwise `gt_label`.

        Raises:
            DataError: A sample has no ground truth. When `gt_label` is used, this error is also raised if a sample does
                not have exactly one class, or if its class is out of range.
        """
        scores = self(features)
        samples = check_truth(data_samples, "gt_score", "gt_label")
        if all("gt_score" in sample for sample in samples):
            target = torch.stack([sample.gt_score for sample in samples])
        else:
            labels = [labels_of(sample, self.num_classes) for sample in samples]
            for sample, label in zip(samples, labels, strict=True):
                if len(label) != 1:
                    message = f"the number of classes of {image_name(sample)} is {len(label)}"
                    raise DataError(f"{message}, but this loss needs exactly one")
            target = torch.cat(labels)
        losses = {"loss": self.loss_module(scores, target)}
        if self.cal_acc:
            ranks = rank_of_truth(scores.detach(), target.argmax(dim=1) if target.ndim > 1 else target)
            losses |= {f"accuracy_top-{k}": 100 * (ranks < k).float().mean() for k in self.topk}
        return losses

    def predict(self, features: Features, data_samples: Samples = None) -> list[ClsDataSample]:
        """Sets `pred_score` and `pred_label` in each image's sample and returns the samples.

        Creates samples if none are passed.
        """
        scores = self(features).softmax(dim=1)
        samples = data_samples or [ClsDataSample() for _ in scores]
        for sample, sample_scores in zip(samples, scores, strict=True):
            sample.set_pred_score(sample_scores).set_pred_label(sample_scores.argmax())
        return list(samples)


@MODELS.register_module()
class LabelSmoothLoss(nn.Module):
    """Cross entropy with label smoothing.

    The true class keeps a weight of ``1 - label_smooth_val``; the rest is distributed uniformly over all classes.

    Args:
        label_smooth_val: The amount of smoothing, from 0 to 1 (exclusive); 0 is plain cross entropy.
        num_classes: Ignored; accepted for compatibility.
        loss_weight: The factor by which the loss is multiplied.
        class_weight: The weight of each class, ``(num_classes,)``; equal by default.

    Raises:
        ArgumentError: `label_smooth_val` is out of range.

    Source: Szegedy et al., "Rethinking the Inception Architecture", arXiv:1512.00567, section 7.
    """

    def __init__(
        self,
        label_smooth_val: float,
        num_classes: int | None = None,
        loss_weight: float = 1.0,
        *,
        class_weight: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        check_number("label_smooth_val", label_smooth_val, least=0, below=1)
        self.label_smooth_val = label_smooth_val
        self.num_classes = num_classes
        self.loss_weight = loss_weight
        self.class_weight: Tensor | None
        weights = None if class_weight is None else torch.tensor(class_weight, dtype=torch.float32)
        self.register_buffer("class_weight", weights, persistent=False)

    def forward(self, scores: Tensor, target: Tensor) -> Tensor:
        """Returns the weighted mean loss for logits ``(N, C)`` and labels ``(N,)`` or soft labels ``(N, C)``."""
        loss = F.cross_entropy(scores, target, self.class_weight, label_smoothing=self.label_smooth_val)
        return self.loss_weight * loss
