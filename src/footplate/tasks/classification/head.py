"""Pooling and the linear classification head."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from footplate.checks import check_count
from footplate.errors import ArgumentError, DataError
from footplate.models import BaseModule
from footplate.registry import MODELS
from footplate.tasks.classification.ranking import rank_of_truth
from footplate.tasks.classification.sample import ClsDataSample, labels_of
from footplate.tasks.model import build_part


@MODELS.register_module()
class GlobalAveragePooling(nn.Module):
    """Averages feature maps over their spatial dimensions."""

    def forward(self, features: Tensor | Sequence[Tensor]) -> Tensor | tuple[Tensor, ...]:
        """Returns ``(N, C)`` for a map ``(N, C, H, W)``, or a tuple for a sequence of maps."""
        if isinstance(features, Tensor):
            return features.mean(dim=(2, 3))
        return tuple(each.mean(dim=(2, 3)) for each in features)


@MODELS.register_module()
class LinearClsHead(BaseModule):
    """Computes class scores with one linear layer.

    Args:
        num_classes: The number of classes.
        in_channels: The number of input channels.
        loss: A module or a config for MODELS. The module takes scores ``(N, C)`` and labels ``(N,)`` or soft labels
            ``(N, C)``.
        topk: The values of k of the training accuracy.
        cal_acc: Whether to log the top-k accuracy in training.
        init_cfg: See `BaseModule`; by default weights are normally distributed with a standard deviation of 0.01.

    Raises:
        ArgumentError: `num_classes` is not positive, or a k is not between 1 and `num_classes`.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        loss: Mapping[str, Any] | nn.Module | None = None,
        topk: int | Sequence[int] = (1,),
        cal_acc: bool = False,
        init_cfg: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__(init_cfg or {"type": "Normal", "layer": "Linear", "std": 0.01})
        self.topk = (topk,) if isinstance(topk, int) else tuple(topk)
        check_count("num_classes", num_classes)
        if not all(1 <= k <= num_classes for k in self.topk):
            raise ArgumentError(f"there are {num_classes} classes to be among the top of", key="topk", found=self.topk)
        self.num_classes = num_classes
        self.cal_acc = cal_acc
        self.fc = nn.Linear(in_channels, num_classes)
        loss = {"type": "LabelSmoothLoss", "label_smooth_val": 0.0} if loss is None else loss
        self.loss_module: nn.Module = build_part("loss", loss)

    def forward(self, features: Tensor | Sequence[Tensor]) -> Tensor:
        """Returns scores ``(N, num_classes)`` for features ``(N, in_channels)``; of a sequence, the last is used."""
        last = features if isinstance(features, Tensor) else features[-1]
        scores: Tensor = self.fc(last)
        return scores.float()  # compute losses in float32 even under autocast

    def loss(
        self, features: Tensor | Sequence[Tensor], data_samples: Sequence[ClsDataSample] | None
    ) -> dict[str, Tensor]:
        """Returns `loss` and, with `cal_acc`, `accuracy_top-k` in percent.

        Raises:
            DataError: A sample has no ground truth, several classes but no `gt_score`, or a class out of range.
        """
        scores = self(features)
        if not data_samples:
            raise DataError("the loss needs the truth of every picture, and the batch has no 'data_samples'")
        soft = all("gt_score" in sample for sample in data_samples)
        target = _stack_scores(data_samples) if soft else self._stack_labels(data_samples)
        losses = {"loss": self.loss_module(scores, target)}
        if self.cal_acc:
            ranks = rank_of_truth(scores.detach(), target.argmax(dim=1) if soft else target)
            losses |= {f"accuracy_top-{k}": 100 * (ranks < k).float().mean() for k in self.topk}
        return losses

    def predict(
        self, features: Tensor | Sequence[Tensor], data_samples: Sequence[ClsDataSample] | None = None
    ) -> list[ClsDataSample]:
        """Returns one ClsDataSample with `pred_score` and `pred_label` for each image."""
        scores = self(features).softmax(dim=1)
        samples = data_samples if data_samples is not None else [ClsDataSample() for _ in scores]
        labels = scores.argmax(dim=1, keepdim=True)
        return [
            sample.set_pred_score(each).set_pred_label(label)
            for sample, each, label in zip(samples, scores, labels, strict=True)
        ]

    def _stack_labels(self, data_samples: Sequence[ClsDataSample]) -> Tensor:
        labels = [labels_of(sample, self.num_classes) for sample in data_samples]
        for each, sample in zip(labels, data_samples, strict=True):
            if len(each) != 1:
                where = sample.get("img_path", "a picture")
                raise DataError(f"'{where}' has {len(each)} classes, this loss takes one", found=tuple(each.shape))
        return torch.cat(labels)


def _stack_scores(data_samples: Sequence[ClsDataSample]) -> Tensor:
    return torch.stack([sample.gt_score for sample in data_samples])
