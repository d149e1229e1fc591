"""Data preprocessors, which move batches to the device, and normalize and stack images."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import Self

from footplate.data import map_tensors
from footplate.error_context import at_key
from footplate.errors import ArgumentError, DataError
from footplate.registry import MODELS


@MODELS.register_module()
class BaseDataPreprocessor(nn.Module):
    """Moves batches to the model's device.

    Args:
        non_blocking: Whether to copy asynchronously. This requires batches in pinned memory.
    """

    def __init__(self, non_blocking: bool | None = False) -> None:
        super().__init__()
        self._non_blocking = bool(non_blocking)
        self._device = torch.device("cpu")

    @property
    def device(self) -> torch.device:
        """The device that batches are moved to."""
        return self._device

    def forward(self, data: Any, training: bool = False) -> Any:
        """Returns the batch that is passed to `BaseModel.forward`.

        Args:
            data: A batch from the dataloader.
            training: Whether the batch is used for training.
        """
        return self.cast_data(data)

    def cast_data(self, data: Any) -> Any:
        """Returns the batch with all nested tensors and data elements moved to the device."""
        return map_tensors(data, self._move)

    def _move(self, value: Any) -> Any:
        # In some packages, such as MMDetection3D with its boxes, `to` accepts only a device.
        return value.to(self._device, non_blocking=True) if self._non_blocking else value.to(self._device)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # When `to`, `cuda` or `cpu` is called on the model, torch calls only this method on submodules.
        self._device = fn(torch.empty(0, device=self._device)).device
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self


@MODELS.register_module()
class ImgDataPreprocessor(BaseDataPreprocessor):
    """Normalizes images and stacks them into one tensor.

    The batch is a dict whose `inputs` is a list of images of shape ``(C, H, W)``, which may differ in size, or one
    tensor of shape ``(N, C, H, W)``. The values are usually from 0 to 255. Smaller images are padded at the right and
    bottom.

    Args:
        mean: The values to subtract from the channels, after `bgr_to_rgb` or `rgb_to_bgr`: either three values,
            one per channel, or a single value for all channels.
        std: The values to divide the channels by, in the same format as `mean`. If neither `mean` nor `std` is set,
            images are not normalized.
        pad_size_divisor: The height and width are padded to multiples of this number.
        pad_value: The value of padded pixels, after normalization.
        bgr_to_rgb: Whether to swap the first and the third channel.
        rgb_to_bgr: The same as `bgr_to_rgb`. Only one of the two may be set.
        non_blocking: See `BaseDataPreprocessor`.
        batch_augments: Callables, or dicts for MODELS, to apply in order during training. Each takes and returns
            `(inputs, data_samples)`.

    Raises:
        ArgumentError: `mean` or `std` is invalid, only one of them is set, or both channel conversions are set.
    """

    def __init__(
        self,
        mean: Sequence[float] | float | None = None,
        std: Sequence[float] | float | None = None,
        pad_size_divisor: int = 1,
        pad_value: float = 0,
        bgr_to_rgb: bool = False,
        rgb_to_bgr: bool = False,
        non_blocking: bool | None = False,
        *,
        batch_augments: Sequence[Callable[..., Any] | Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__(non_blocking)
        if bgr_to_rgb and rgb_to_bgr:
            raise ArgumentError("bgr_to_rgb and rgb_to_bgr cannot both be set", key="rgb_to_bgr")
        if (mean is None) != (std is None):
            raise ArgumentError("mean and std must be set together", key="mean" if mean is None else "std")
        self._enable_normalize = mean is not None
        self.mean: Tensor
        self.std: Tensor
        if mean is not None and std is not None:
            self.register_buffer("mean", _channel_values("mean", mean), persistent=False)
            self.register_buffer("std", _channel_values("std", std), persistent=False)
        self._channel_conversion = bgr_to_rgb or rgb_to_bgr
        self.pad_size_divisor = pad_size_divisor
        self.pad_value = pad_value
        self._batch_augments = []
        for index, augment in enumerate(batch_augments or ()):
            with at_key(f"batch_augments[{index}]"):
                self._batch_augments.append(augment if callable(augment) else MODELS.build(augment))

    def forward(self, data: Any, training: bool = False) -> Any:
        """Returns the batch with `inputs` as one float tensor of shape ``(N, C, H, W)``.

        Args:
            data: A dict with `inputs` and optionally `data_samples`.
            training: Whether to apply `batch_augments`.

        Raises:
            DataError: `inputs` is missing or does not contain images.
        """
        if not isinstance(data, Mapping) or "inputs" not in data:
            raise DataError(
                "a batch of images must be a dict with the key 'inputs'",
                found=_keys_or_type(data),
                notes=["End the dataset's pipeline with a transform that packs samples, such as PackInputs."],
            )
        batch = self.cast_data(dict(data))
        batch["inputs"] = self._stack(batch["inputs"])
        batch.setdefault("data_samples", None)
        self.fit_samples(batch, training)
        if training:
            for augment in self._batch_augments:
                batch["inputs"], batch["data_samples"] = augment(batch["inputs"], batch["data_samples"])
        return batch

    def fit_samples(self, batch: dict[str, Any], training: bool) -> None:
        """Adapts the data samples of a stacked batch to the padded image size. Does nothing by default."""

    def _stack(self, inputs: Any) -> Tensor:
        if isinstance(inputs, Tensor) and inputs.dim() == 4:
            images = self._normalize(inputs)
            bottom, right = (-length % self.pad_size_divisor for length in images.shape[-2:])
            return F.pad(images, (0, right, 0, bottom), value=self.pad_value) if right or bottom else images
        if not isinstance(inputs, (list, tuple)) or not all(isinstance(image, Tensor) for image in inputs):
            raise DataError(
                "inputs must be a list of tensors (C, H, W) or one tensor (N, C, H, W)",
                found=getattr(inputs, "shape", None) or _keys_or_type(inputs),
            )
        if len({image.shape for image in inputs}) == 1:
            return self._stack(torch.stack(list(inputs)))
        return stack_batch([self._normalize(image) for image in inputs], self.pad_size_divisor, self.pad_value)

    def _normalize(self, images: Tensor) -> Tensor:
        """Converts images of shape ``(..., C, H, W)`` to float, and swaps and normalizes channels as configured."""
        needs_three = self._channel_conversion or (self._enable_normalize and len(self.mean) == 3)
        if images.dim() < 3 or (needs_three and images.shape[-3] != 3):
            raise DataError(
                f"the data preprocessor needs images of shape ({3 if needs_three else 'C'}, H, W)",
                key="model.data_preprocessor",
                found=tuple(images.shape),
            )
        if self._channel_conversion:
            images = images.flip(-3)
        images = images.float()
        return (images - self.mean) / self.std if self._enable_normalize else images


def stack_batch(tensors: Sequence[Tensor], pad_size_divisor: int = 1, pad_value: float = 0) -> Tensor:
    """Pads tensors to a common size, at the end of every dimension except the first, and stacks them.

    Args:
        tensors: The tensors, such as images of shape ``(C, H, W)``, all with the same number of channels.
        pad_size_divisor: The padded sizes are multiples of this number.
        pad_value: The value of padded elements.

    Returns:
        A tensor of shape ``(N, C, H, W)`` for images.

    Raises:
        DataError: `tensors` is empty, or the tensors differ in the number of dimensions or channels.
    """
    shapes = [tensor.shape for tensor in tensors]
    if len({(len(shape), shape[0]) for shape in shapes}) != 1:
        raise DataError(
            "a batch must contain images, and all of them must have the same number of channels",
            found=list(map(tuple, shapes)),
        )
    longest = map(max, list(zip(*shapes, strict=True))[1:])
    sizes = [math.ceil(length / pad_size_divisor) * pad_size_divisor for length in longest]
    padded = []
    for tensor in tensors:
        missing = [size - length for size, length in zip(sizes, tensor.shape[1:], strict=True)]
        padded.append(F.pad(tensor, [count for last in missing[::-1] for count in (0, last)], value=pad_value))
    return torch.stack(padded)


def _channel_values(name: str, values: Sequence[float] | float) -> Tensor:
    """Returns `values` as a tensor of shape ``(C, 1, 1)``."""
    tensor = torch.tensor(values, dtype=torch.float32).view(-1, 1, 1)
    if len(tensor) not in (1, 3) or (name == "std" and 0 in tensor):
        message = f"{name} must have one value or one per channel (3), and values of std must not be 0"
        raise ArgumentError(message, key=name, found=values)
    return tensor


def _keys_or_type(value: object) -> object:
    return list(value) if isinstance(value, Mapping) else type(value)
