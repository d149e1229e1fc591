"""From a batch of the loader to what a model takes: on its device, normalised, in one tensor."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import Self

from footplate.error_context import at_key
from footplate.errors import ArgumentError, DataError
from footplate.registry import MODELS

_SECTION = "model.data_preprocessor"


@MODELS.register_module()
class BaseDataPreprocessor(nn.Module):
    """Moves a batch to the device that the model was moved to.

    Args:
        non_blocking: Copy while the host goes on; of use for batches in pinned memory.
    """

    def __init__(self, non_blocking: bool | None = False) -> None:
        super().__init__()
        self._non_blocking = bool(non_blocking)
        self._device = torch.device("cpu")

    @property
    def device(self) -> torch.device:
        """Where batches are moved to."""
        return self._device

    def forward(self, data: Any, training: bool = False) -> Any:
        """Returns the batch that `BaseModel.forward` takes.

        Args:
            data: What the loader gave.
            training: Whether augmentations act.
        """
        return self.cast_data(data)

    def cast_data(self, data: Any) -> Any:
        """Returns the batch with its tensors and data elements, at any depth, on the device."""
        if isinstance(data, Tensor):
            there = data.device == self._device  # asking costs a tenth of a copy that does nothing
            return data if there else data.to(self._device, non_blocking=self._non_blocking)
        if isinstance(data, dict):
            return {key: self.cast_data(value) for key, value in data.items()}
        if isinstance(data, (str, bytes)) or data is None:
            return data
        if isinstance(data, tuple) and hasattr(data, "_fields"):
            return type(data)(*[self.cast_data(value) for value in data])
        if isinstance(data, (list, tuple)):
            return type(data)([self.cast_data(value) for value in data])
        return data.to(self._device, non_blocking=self._non_blocking) if hasattr(data, "to") else data

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # The only way of torch's `to`, `cuda`, `cpu` ... that also comes by when the model around is moved.
        self._device = fn(torch.empty(0, device=self._device)).device
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self


@MODELS.register_module()
class ImgDataPreprocessor(BaseDataPreprocessor):
    """Makes one normalised tensor of pictures.

    Takes a batch with the key `inputs`: pictures ``(C, H, W)`` in a list, of any sizes, or ``(N, C, H, W)``
    in one tensor. Values are 0 to 255 as a rule. Smaller pictures are padded at the right and at the bottom.

    Args:
        mean: Subtracted from each channel, after the channels were swapped.
        std: Divides each channel.
        pad_size_divisor: Height and width become multiples of it.
        pad_value: What is padded, after normalisation.
        bgr_to_rgb: Swap the first and the third channel.
        rgb_to_bgr: The same.
        non_blocking: As of BaseDataPreprocessor.
        batch_augments: In training, applied one after the other as `augment(inputs, data_samples)`, which
            returns both; callables or dicts for MODELS.
    """

    def __init__(
        self,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
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
            raise ArgumentError("channels are swapped once: bgr_to_rgb or rgb_to_bgr", key="rgb_to_bgr")
        if (mean is None) != (std is None):
            raise ArgumentError("mean and std belong together", key="mean" if mean is None else "std")
        self._normalised = mean is not None
        self.mean: Tensor
        self.std: Tensor
        if mean is not None and std is not None:
            self.register_buffer("mean", _channels("mean", mean), persistent=False)
            self.register_buffer("std", _channels("std", std), persistent=False)
        self.swap_channels = bgr_to_rgb or rgb_to_bgr
        self.pad_size_divisor = pad_size_divisor
        self.pad_value = pad_value
        self.batch_augments = []
        for place, augment in enumerate(batch_augments or ()):
            with at_key(f"batch_augments[{place}]"):
                self.batch_augments.append(augment if callable(augment) else MODELS.build(augment))

    def forward(self, data: Any, training: bool = False) -> Any:
        """Returns the batch with `inputs` as one float tensor ``(N, C, H, W)``.

        Args:
            data: A dict with `inputs` and, if there are any, `data_samples`.
            training: Whether `batch_augments` act.

        Raises:
            DataError: `inputs` is missing or holds no pictures.
        """
        if not isinstance(data, Mapping) or "inputs" not in data:
            raise DataError(
                "a batch of pictures is a dict with the key 'inputs'",
                found=_kind(data),
                notes=["End the pipeline of the data set with a transform that packs, such as PackInputs."],
            )
        batch = self.cast_data(dict(data))
        batch["inputs"] = self._stacked(batch["inputs"])
        batch.setdefault("data_samples", None)
        if training:
            for augment in self.batch_augments:
                batch["inputs"], batch["data_samples"] = augment(batch["inputs"], batch["data_samples"])
        return batch

    def _stacked(self, inputs: Any) -> Tensor:
        if isinstance(inputs, Tensor) and inputs.dim() == 4:
            return _padded_to_multiple(self._normalise(inputs), self.pad_size_divisor, self.pad_value)
        if not isinstance(inputs, (list, tuple)) or not all(isinstance(each, Tensor) for each in inputs):
            raise DataError(
                "the inputs are a list of tensors (C, H, W) or one tensor (N, C, H, W)", found=_kind(inputs)
            )
        if len({each.shape for each in inputs}) == 1:
            return _padded_to_multiple(
                self._normalise(torch.stack(list(inputs))), self.pad_size_divisor, self.pad_value
            )
        return stack_batch([self._normalise(each) for each in inputs], self.pad_size_divisor, self.pad_value)

    def _normalise(self, pictures: Tensor) -> Tensor:
        """Swaps and normalises the channels, the third dimension from the end."""
        channels = pictures.shape[-3] if pictures.dim() >= 3 else 0
        if self.swap_channels:
            if channels != 3:
                raise DataError(
                    "channels are swapped in pictures of 3 channels", key=_SECTION, found=tuple(pictures.shape)
                )
            pictures = pictures.flip(-3)
        pictures = pictures.float()
        if not self._normalised:
            return pictures
        if len(self.mean) not in (1, channels):
            raise DataError(
                f"mean has {len(self.mean)} channels, the pictures differ",
                key=f"{_SECTION}.mean",
                found=tuple(pictures.shape),
            )
        return (pictures - self.mean) / self.std


def stack_batch(tensors: Sequence[Tensor], pad_size_divisor: int = 1, pad_value: float = 0) -> Tensor:
    """Pads pictures at the right and at the bottom to one size and puts them into one tensor.

    Args:
        tensors: ``(C, H, W)`` each; C is the same.
        pad_size_divisor: Height and width of the result are multiples of it.
        pad_value: What is padded.

    Returns:
        ``(N, C, H, W)``.

    Raises:
        DataError: There are no pictures, or they differ in dimensions or channels.
    """
    if not tensors or len({(tensor.dim(), *tensor.shape[:-2]) for tensor in tensors}) != 1:
        raise DataError(
            "pictures of one batch have one number of channels", found=[tuple(each.shape) for each in tensors]
        )
    height = max(tensor.shape[-2] for tensor in tensors)
    width = max(tensor.shape[-1] for tensor in tensors)
    height, width = _multiple(height, pad_size_divisor), _multiple(width, pad_size_divisor)
    batch = tensors[0].new_full((len(tensors), *tensors[0].shape[:-2], height, width), pad_value)
    for place, tensor in enumerate(tensors):
        batch[place, ..., : tensor.shape[-2], : tensor.shape[-1]] = tensor
    return batch


def _padded_to_multiple(batch: Tensor, divisor: int, value: float) -> Tensor:
    height, width = batch.shape[-2:]
    right, bottom = _multiple(width, divisor) - width, _multiple(height, divisor) - height
    return F.pad(batch, (0, right, 0, bottom), value=value) if right or bottom else batch


def _multiple(length: int, divisor: int) -> int:
    return math.ceil(length / divisor) * divisor


def _channels(name: str, values: Sequence[float]) -> Tensor:
    if len(values) not in (1, 3):
        raise ArgumentError(f"{name} has one value, or three for three channels", key=name, found=values)
    if name == "std" and 0 in values:
        raise ArgumentError("std must not be 0, which divides the pictures", key=name, found=values)
    return torch.tensor(values, dtype=torch.float32).view(-1, 1, 1)


def _kind(value: object) -> object:
    return list(value) if isinstance(value, Mapping) else type(value)
