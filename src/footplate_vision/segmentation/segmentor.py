"""Defines segmentation models: the base class, a small network, SegFormer and test-time augmentation."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from footplate.checks import check_keys
from footplate.error_context import at_key
from footplate.errors import ArgumentError, import_optional
from footplate.models import BaseTTAModel
from footplate.models.package_models import check_offline
from footplate.registry import MODELS
from footplate.weighted import Weighted
from footplate_vision.segmentation.data import SegDataSample
from footplate_vision.small_resnet import Pyramid
from footplate_vision.structures import PixelData
from footplate_vision.task_base import TaskModel, check_truth, pad_to

Samples = Sequence[SegDataSample] | None

_STRIDES = (2, 4, 8, 16, 32, 64)
_FLIPPED_DIMS = {"horizontal": (-1,), "vertical": (-2,), "diagonal": (-2, -1)}


class BaseSegmentor(TaskModel):
    """The base class for models that compute class scores for every pixel. Subclasses override `score`.

    Args:
        num_classes: The number of classes, including the background.
        ignore_index: Pixels with this label are ignored.
        class_weight: The weight of each class in the loss, ``(num_classes,)``; equal by default.
        flip_test: Whether to average the predictions for the image and its flipped copy.
        settings: `data_preprocessor` and `init_cfg`; see `BaseModel`.

    Raises:
        ArgumentError: `class_weight` does not have one weight per class.
    """

    usual_preprocessor = "SegDataPreProcessor"

    def __init__(
        self,
        num_classes: int,
        *,
        ignore_index: int = 255,
        class_weight: Sequence[float] | None = None,
        flip_test: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        if class_weight is not None and len(class_weight) != num_classes:
            problem = f"class_weight must contain one weight for each of the {num_classes} classes"
            raise ArgumentError(problem, key="class_weight", found=class_weight)
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.flip_test = flip_test
        self.class_weight: Tensor | None
        weights = None if class_weight is None else torch.tensor(class_weight, dtype=torch.float32)
        self.register_buffer("class_weight", weights, persistent=False)

    @abstractmethod
    def score(self, inputs: Tensor) -> Tensor:
        """Returns float32 scores of shape ``(N, num_classes, h, w)`` for images of shape ``(N, 3, H, W)``.

        If h and w differ from H and W, the caller resizes the scores; see `enlarge`.
        """

    def outputs(self, inputs: Tensor) -> Tensor:
        """Returns scores of shape ``(N, C, H, W)``, at the size of the inputs."""
        return enlarge(self.score(inputs), inputs.shape[-2:])

    def loss(self, inputs: Tensor, data_samples: Samples) -> dict[str, Weighted]:
        """Returns `loss_ce` and `acc_seg` (the pixel accuracy in percent); each sample needs `gt_sem_seg`.

        Both are `Weighted` by the pixels that they are means over. The loss is 0, not NaN, if all pixels are ignored or
        have classes of weight 0.
        """
        truth = stack_label_maps(data_samples, inputs.shape[-2:], self.ignore_index)
        scores = self.outputs(inputs)
        pixels, labels = scores, truth
        if scores.is_cuda and torch.are_deterministic_algorithms_enabled():  # the loss of images would be an error
            pixels, labels = scores.movedim(1, -1).flatten(0, -2), truth.flatten()
        loss = F.cross_entropy(pixels, labels, self.class_weight, ignore_index=self.ignore_index, reduction="sum")
        counted = truth != self.ignore_index
        classes = truth.where(counted, 0)
        weights = counted if self.class_weight is None else self.class_weight[classes] * counted
        total = weights.sum()
        detached = scores.detach()
        # Comparing with the maximum is faster than comparing the labels with `argmax`.
        is_highest = detached.gather(1, classes[:, None]) == detached.amax(dim=1, keepdim=True)
        right = is_highest[:, 0] & counted
        count = counted.sum()
        return {
            "loss_ce": Weighted(loss / (total + (total == 0)), total),
            "acc_seg": Weighted(100 * right.sum() / count.clamp(min=1), count),
        }

    def predict(self, inputs: Tensor, data_samples: Samples) -> list[SegDataSample]:
        """Sets `seg_logits` and `pred_sem_seg` in each image's sample and returns the samples.

        Creates samples if none are passed.
        """
        scores = self._score_for_test(inputs)
        samples = data_samples or [SegDataSample() for _ in scores]
        for sample, sample_scores in zip(samples, scores, strict=True):
            sample.seg_logits = PixelData(data=scores_of_original(sample_scores, sample))
            sample.pred_sem_seg = PixelData(data=sample.seg_logits.data.argmax(dim=0, keepdim=True))
        return list(samples)

    def predicted_tensors(self, inputs: Tensor) -> dict[str, Tensor]:
        """Returns `probabilities` of shape ``(N, C, H, W)`` and int64 `labels` of shape ``(N, H, W)``."""
        scores = self._score_for_test(inputs)
        return {"probabilities": scores.softmax(dim=1), "labels": scores.argmax(dim=1)}

    def _score_for_test(self, inputs: Tensor) -> Tensor:
        scores = self.outputs(inputs)
        return (scores + self.outputs(inputs.flip(-1)).flip(-1)) / 2 if self.flip_test else scores


def enlarge(scores: Tensor, size: Sequence[int]) -> Tensor:
    """Resizes scores of shape ``(N, C, h, w)`` to the size ``(H, W)`` of the inputs.

    If h and w are H and W divided by a stride of 2, 4, 8, ..., rounded up, enlarges the scores by exactly this stride,
    and crops them. Otherwise, the positions of the scores depend on H and W, and thus on the other images of the batch.
    This is also the case if h or w is at most 2, because the stride is then ambiguous.
    """
    (height, width), (h, w) = size, scores.shape[-2:]
    if (h, w) == (height, width):
        return scores
    whole = (height, width)
    for stride in _STRIDES if min(h, w) > 2 else ():
        if stride * (h - 1) < height <= stride * h and stride * (w - 1) < width <= stride * w:
            whole = (stride * h, stride * w)
            break
    enlarged = F.interpolate(scores, whole, mode="bilinear", align_corners=False)
    if torch.compiler.is_compiling():  # with slices, an exported .pt2 file would only accept multiples of the stride
        return F.pad(enlarged, (0, width - whole[1], 0, height - whole[0]))
    return enlarged[..., :height, :width]


def stack_label_maps(data_samples: Samples, shape: Sequence[int], ignore_index: int) -> Tensor:
    """Returns the label maps of all images at the size of the inputs, as an int64 tensor of shape ``(N, H, W)``.

    In training, the preprocessor has already padded the label maps. In validation, they may have the size of the
    original image.

    Raises:
        DataError: A sample has no ground truth.
    """
    label_maps = []
    for sample in check_truth(data_samples, "gt_sem_seg"):
        labels: Tensor = sample.gt_sem_seg.data
        if labels.shape[-2:] != shape:
            size = tuple(sample.get("img_shape", shape))[:2]
            if labels.shape[-2:] != size:
                labels = F.interpolate(labels[None].float(), size, mode="nearest")[0].to(labels.dtype)
            labels = pad_to(labels.long(), shape, ignore_index)
        label_maps.append(labels)
    return torch.cat(label_maps).long()


def scores_of_original(scores: Tensor, sample: SegDataSample) -> Tensor:
    """Undoes padding, flipping and resizing. Returns scores of shape ``(C, H, W)`` at the original image's size."""
    height, width = sample.get("img_shape", scores.shape[-2:])[:2]
    scores = scores[:, :height, :width]
    if sample.get("flip", False):
        scores = scores.flip(_FLIPPED_DIMS[sample.get("flip_direction") or "horizontal"])
    original = tuple(sample.get("ori_shape", scores.shape[-2:]))[:2]
    if original != scores.shape[-2:]:
        scores = F.interpolate(scores[None], original, mode="bilinear", align_corners=False)[0]
    return scores


class EncoderDecoder(Pyramid):
    """A feature pyramid with a coarse and a fine head whose scores are added.

    The coarse head classifies objects from deep features. The fine head refines their borders from features at half
    resolution, and predicts the 2 x 2 pixels of each position separately.

    Args:
        num_classes: The number of output channels.
        widths: See `Pyramid`.
        depths: See `Pyramid`.

    Source: Shi et al., "Sub-Pixel Convolutional Neural Network", arXiv:1609.05158.
    """

    def __init__(self, num_classes: int, *, widths: Sequence[int], depths: Sequence[int]) -> None:
        super().__init__(widths, depths)
        self.coarse_head = nn.Conv2d(widths[-2], num_classes, 1)
        self.fine_head = nn.Conv2d(widths[0], 4 * num_classes, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns scores of shape ``(N, num_classes, H, W)`` for images of shape ``(N, 3, H, W)`` of any size."""
        height, width = inputs.shape[-2:]
        decoded = self.decode(inputs)
        coarse = self.coarse_head(decoded[1])
        fine = self.fine_head(decoded[-1])
        enlarged = F.interpolate(coarse, list(fine.shape[-2:]), mode="bilinear")
        return join_blocks(fine.unflatten(1, (4, -1)) + enlarged[:, None])[..., :height, :width]


def join_blocks(blocks: Tensor) -> Tensor:
    """Converts scores of 2 x 2 blocks, of shape ``(N, 4, C, H, W)``, to shape ``(N, C, 2 * H, 2 * W)``.

    Like `F.pixel_shuffle`, but faster in channels-last format, because the channels of a pixel stay together.
    """
    count, _, channels, height, width = blocks.shape
    rows = blocks.permute(0, 3, 4, 1, 2).reshape(count, height, width, 2, 2, channels).transpose(2, 3)
    return rows.reshape(count, 2 * height, 2 * width, channels).permute(0, 3, 1, 2)


@MODELS.register_module()
class SmallSegmentor(BaseSegmentor):
    """Semantic segmentation of small images with an `EncoderDecoder`.

    Args:
        num_classes: The number of classes, including the background.
        widths: The number of channels of each stage of the network.
        depths: The number of residual blocks of each stage.
        settings: Arguments for `BaseSegmentor`.

    Example:
        >>> import torch
        >>> SmallSegmentor(num_classes=11)(torch.zeros(2, 3, 64, 64)).shape
        torch.Size([2, 11, 64, 64])
    """

    def __init__(
        self,
        num_classes: int,
        *,
        widths: Sequence[int] = (32, 64, 128, 192),
        depths: Sequence[int] = (1, 1, 2, 2),
        **settings: Any,
    ) -> None:
        super().__init__(num_classes, **settings)
        self.network = EncoderDecoder(num_classes, widths=widths, depths=depths)

    def score(self, inputs: Tensor) -> Tensor:
        """Returns scores of shape ``(N, num_classes, H, W)`` for images of shape ``(N, 3, H, W)``."""
        scores: Tensor = self.network(inputs)
        return scores.float()  # compute losses in float32 even under autocast


@MODELS.register_module()
class SegFormer(BaseSegmentor):
    """SegFormer: a hierarchical transformer with an MLP decoder. Pretrained weights are not downloaded.

    To load a file that transformers has saved, set `revise_keys=[("^", "network.")]` in
    `init_cfg=dict(type="Pretrained", ...)`.

    Args:
        num_classes: The number of classes, including the background.
        config: Arguments for transformers' `SegformerConfig`, such as `hidden_sizes`, `depths` and `sr_ratios`.
        settings: Arguments for `BaseSegmentor`.

    Raises:
        MissingExtraError: The package transformers is not installed.
        ArgumentError: `config` has an unknown key.

    Source: Xie et al., "SegFormer", arXiv:2105.15203.
    """

    def __init__(self, num_classes: int, *, config: dict[str, Any] | None = None, **settings: Any) -> None:
        super().__init__(num_classes, **settings)
        transformers = import_optional("transformers", extra="transformers", why="SegFormer")
        config = config or {}
        check_offline(config)
        with at_key("config"):
            check_keys("config", config, transformers.SegformerConfig().to_dict())
        made = transformers.SegformerConfig(**{**config, "num_labels": num_classes})
        self.network: Any = transformers.SegformerForSemanticSegmentation(made)

    def score(self, inputs: Tensor) -> Tensor:
        """Returns scores at the resolution of the first stage, by default ``(N, num_classes, H / 4, W / 4)``."""
        return self.network(pixel_values=inputs).logits.float()  # type: ignore[no-any-return]


@MODELS.register_module()
class SegTTAModel(BaseTTAModel):
    """Averages the class probabilities over the views of an image. The wrapped model undoes flipping and resizing."""

    def merge_preds(self, data_samples_list: list[list[Any]]) -> list[SegDataSample]:
        """Returns the sample of each image's first unflipped view, with the mean probabilities of all views.

        The probabilities replace `seg_logits`. If all views are flipped, returns the sample of the first view.
        """
        merged = []
        for views in data_samples_list:
            if "seg_logits" not in views[0]:
                notes = ["For another model, set flip_test=True in `model`, or derive a class from BaseTTAModel."]
                raise ArgumentError("SegTTAModel merges only segmentations", key="tta_model.type", notes=notes)
            probabilities = torch.stack([view.seg_logits.data.softmax(dim=0) for view in views]).mean(dim=0)
            sample: SegDataSample = next((view for view in views if not view.get("flip", False)), views[0])
            sample.seg_logits = PixelData(data=probabilities)
            sample.pred_sem_seg = PixelData(data=probabilities.argmax(dim=0, keepdim=True))
            merged.append(sample)
        return merged
