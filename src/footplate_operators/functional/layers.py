"""Functions of losses and layers: focal loss, CARAFE, PSA masks and others. See `footplate_operators.layers`."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from footplate_operators import layers
from footplate_operators.registration import filling_operator, operator, selecting_operator
from footplate_operators.sizes import pair


def _sigmoid_focal_loss_backward(grad_output: Tensor, *arguments: Any) -> None:
    layers.sigmoid_focal_loss_backward(*arguments)
    arguments[3].mul_(grad_output)


@filling_operator(
    layers.sigmoid_focal_loss_forward,
    "input target weight output",
    _sigmoid_focal_loss_backward,
    "grad_output input target weight grad_input",
    autocast=torch.float32,
    batched="input target",
)
def _sigmoid_focal_loss(input: Tensor, target: Tensor, weight: Tensor, gamma: float, alpha: float) -> Tensor:
    return torch.empty_like(input)


def _reduced(loss: Tensor, reduction: str) -> Tensor:
    return loss if reduction == "none" else {"mean": loss.sum() / loss.size(0), "sum": loss.sum()}[reduction]


def sigmoid_focal_loss(
    input: Tensor,
    target: Tensor,
    gamma: float = 2.0,
    alpha: float = 0.25,
    weight: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Returns the focal loss of the sigmoid of logits. Autocast computes it in float32.

    Args:
        input: The logits, of shape (N, C).
        target: The class of each row, of shape (N,), int64. Class C is the background.
        gamma: The exponent of the factor for easy examples.
        alpha: The factor for positive examples. For negative examples, it is `1 - alpha`.
        weight: A factor for each class, of shape (C,).
        reduction: "none", "sum", or "mean" for the sum divided by N.

    Returns:
        The loss, of shape (N, C) if it is not reduced.
    """
    weight = input.new_empty(0) if weight is None else weight
    return _reduced(_sigmoid_focal_loss(input, target, weight, float(gamma), float(alpha)), reduction)


def _softmax_focal_loss_forward(input: Tensor, probabilities: Tensor, *arguments: Any) -> None:
    torch.softmax(input, 1, out=probabilities)
    layers.softmax_focal_loss_forward(probabilities, *arguments)


def _softmax_focal_loss_backward(*arguments: Any) -> None:
    layers.softmax_focal_loss_backward(*arguments)
    *_, grad_output, grad_input, _, _ = arguments
    grad_input.mul_(grad_output[:, None])


@filling_operator(
    _softmax_focal_loss_forward,
    "input probabilities target weight output",
    _softmax_focal_loss_backward,
    "probabilities target weight grad_output grad_input",
    outputs="output probabilities",
    autocast=torch.float32,
    batched="input target",
)
def _softmax_focal_loss(
    input: Tensor, target: Tensor, weight: Tensor, gamma: float, alpha: float
) -> tuple[Tensor, Tensor]:
    return input.new_empty(input.size(0)), torch.empty_like(input)


def softmax_focal_loss(
    input: Tensor,
    target: Tensor,
    gamma: float = 2.0,
    alpha: float = 0.25,
    weight: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Returns the focal loss of the softmax of logits. Autocast computes it in float32.

    Args:
        input: The logits, of shape (N, C).
        target: The class of each row, of shape (N,), int64. The loss of other classes than 0 to C - 1 is 0.
        gamma: The exponent of the factor for easy examples.
        alpha: A factor for the loss.
        weight: A factor for each class, of shape (C,).
        reduction: "none", "sum", or "mean" for the sum divided by N.

    Returns:
        The loss, of shape (N,) if it is not reduced.
    """
    weight = input.new_empty(0) if weight is None else weight
    loss, _ = _softmax_focal_loss(input, target, weight, float(gamma), float(alpha))
    return _reduced(loss, reduction)


@filling_operator(
    layers.carafe_naive_forward,
    "features masks output",
    layers.carafe_naive_backward,
    "grad_output features masks grad_features grad_masks",
    batched="features masks",
)
def _carafe(features: Tensor, masks: Tensor, kernel_size: int, group_size: int, scale_factor: int) -> Tensor:
    count, channels, height, width = features.shape
    return features.new_empty(count, channels, height * scale_factor, width * scale_factor)


def carafe(features: Tensor, masks: Tensor, kernel_size: int, group_size: int, scale_factor: int) -> Tensor:
    """Upsamples features with a separate kernel for each output pixel. It runs in the dtype of `features`.

    Args:
        features: The features, of shape (N, C, H, W).
        masks: The kernels, of shape (N, group_size * K * K, s * H, s * W), where K is `kernel_size` and s is
            `scale_factor`.
        kernel_size: The height and width of a kernel.
        group_size: The number of groups of channels with kernels of their own.
        scale_factor: The factor for the height and the width.

    Returns:
        A tensor of shape (N, C, s * H, s * W).
    """
    return _carafe(features, masks.type_as(features), kernel_size, group_size, scale_factor)


carafe_naive = carafe


def _of_masks(run: Callable[..., None]) -> Callable[..., None]:
    return lambda first, second, psa_type, *mask_size: run(first, second, psa_type, 0, 0, 0, *mask_size)


@filling_operator(
    _of_masks(layers.psamask_forward),
    "input output",
    _of_masks(layers.psamask_backward),
    "grad_output grad_input",
    batched="input",
)
def _psa_mask(input: Tensor, psa_type: int, height: int, width: int) -> Tensor:
    return input.new_empty(input.size(0), input.size(2) * input.size(3), *input.shape[2:])


def psa_mask(input: Tensor, psa_type: str | int, mask_size: int | tuple[int, int]) -> Tensor:
    """Converts PSA masks to an attention map.

    Args:
        input: The masks, of shape (N, mask height * mask width, H, W). They contain a weight for each neighbor.
        psa_type: "collect" or 0 if dimension 1 of the map is the neighbor, or "distribute" or 1 if it is the pixel.
        mask_size: The height and width of a mask.

    Returns:
        The map, of shape (N, H * W, H, W).
    """
    number = {"collect": 0, "distribute": 1}[psa_type] if isinstance(psa_type, str) else psa_type
    return _psa_mask(input, number, *pair(mask_size))


def _masked_convolution(
    features: Tensor, mask: Tensor, weight: Tensor, bias: Tensor, output: Tensor, *padding: int
) -> None:
    y, x = (mask[0] > 0).nonzero(as_tuple=True)
    columns = features.new_empty(weight[0].numel(), y.size(0))
    layers.masked_im2col_forward(features, y, x, columns, *weight.shape[2:], *padding)
    values = torch.addmm(bias[:, None], weight.flatten(1), columns)
    layers.masked_col2im_forward(values, y, x, output, 0, 0, weight.size(0))


@filling_operator(_masked_convolution, "features mask weight bias output")
def _masked_conv2d(
    features: Tensor, mask: Tensor, weight: Tensor, bias: Tensor, y_padding: int, x_padding: int
) -> Tensor:
    height = features.size(2) + 2 * y_padding - weight.size(2) + 1
    width = features.size(3) + 2 * x_padding - weight.size(3) + 1
    return features.new_zeros(1, weight.size(0), height, width)


def masked_conv2d(
    features: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor,
    padding: int | tuple[int, int] = 0,
    stride: int | tuple[int, int] = 1,
) -> Tensor:
    """Applies a convolution where a mask is positive, and returns 0 elsewhere. It has no gradient.

    Args:
        features: The features of one image, of shape (1, C, H, W).
        mask: The mask, of shape (1, rows, columns).
        weight: The weight, of shape (O, C, kernel height, kernel width).
        bias: The bias, of shape (O,).
        padding: The padding with zeros.
        stride: Must be 1.

    Returns:
        A tensor of shape (1, O, rows, columns).

    Raises:
        ValueError: `stride` is not 1.
    """
    if pair(stride) != (1, 1):
        raise ValueError(f"masked_conv2d needs a stride of 1, not {stride}.")
    weight, bias = weight.type_as(features), bias.type_as(features)
    return _masked_conv2d(features, mask, weight, bias, *pair(padding))


@filling_operator(
    layers.active_rotated_filter_forward,
    "input indices output",
    layers.active_rotated_filter_backward,
    "grad_output indices grad_input",
)
def active_rotated_filter(input: Tensor, indices: Tensor) -> Tensor:
    """Rotates the filters of a convolution.

    Args:
        input: The weights, of shape (O, I, orientations, kernel height, kernel width).
        indices: The new position of each weight after each rotation, counted from 1, of shape (orientations, kernel
            height, kernel width, rotations).

    Returns:
        The filters, of shape (O * rotations, I * orientations, kernel height, kernel width).
    """
    count, channels, orientations, height, width = input.shape
    return input.new_empty(count * indices.size(3), channels * orientations, height, width)


def _filtered(input: Tensor, filter: Tensor, up: list[int], down: list[int], padding: list[int], *_: Any) -> Tensor:
    height = (input.size(2) * up[1] + padding[2] + padding[3] - filter.size(0)) // down[1] + 1
    width = (input.size(3) * up[0] + padding[0] + padding[1] - filter.size(1)) // down[0] + 1
    return input.new_empty(*input.shape[:2], height, width)


@operator(_filtered, batched="input")
def _upfirdn2d(
    input: Tensor, filter: Tensor, up: list[int], down: list[int], padding: list[int], flip: bool, gain: float
) -> Tensor:
    settings: list[Any] = [*up, *down, *padding, flip, gain]
    return layers.upfirdn2d(input, filter, *settings).contiguous()


def _save_filter(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    input, filter, *ctx.settings = inputs
    ctx.save_for_backward(filter)
    ctx.sizes = input.shape[:1:-1], output.shape[:1:-1]


def _upfirdn2d_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    (filter,) = ctx.saved_tensors
    up, down, padding, flip, gain = ctx.settings
    borders = []
    for axis, (size, out_size) in enumerate(zip(*ctx.sizes, strict=True)):
        before = padding[2 * axis]
        borders += [filter.size(1 - axis) - before - 1, size * up[axis] - out_size * down[axis] + before - up[axis] + 1]
    return _upfirdn2d(grad, filter, down, up, borders, not flip, gain), *[None] * 6


_upfirdn2d.register_autograd(_upfirdn2d_backward, _save_filter)


def upfirdn2d(
    input: Tensor,
    filter: Tensor | None,
    up: int | Sequence[int] = 1,
    down: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    flip_filter: bool = False,
    gain: float = 1,
    use_custom_op: bool = True,
) -> Tensor:
    """Upsamples images by inserting zeros, pads or crops them, and then filters and downsamples them.

    It can be differentiated any number of times with respect to `input`.

    Args:
        input: The images, of shape (N, C, H, W).
        filter: A filter of shape (kernel height, kernel width), or of shape (K,) for both directions. None does not
            filter.
        up: The upsampling factor, or one for x and one for y.
        down: The downsampling factor, or one for x and one for y.
        padding: The padding; one value, one for x and one for y, or left, right, top and bottom. Negative values crop.
        flip_filter: Whether to compute a correlation instead of a convolution.
        gain: The factor for the result.
        use_custom_op: Ignored.
    """
    filter = input.new_ones(1, 1) if filter is None else filter
    filter = filter.outer(filter) if filter.dim() == 1 else filter
    up, down = ([factor] * 2 if isinstance(factor, int) else list(factor) for factor in (up, down))
    borders = [padding] * 4 if isinstance(padding, int) else list(padding)
    borders = [side for side in borders for _ in range(2)] if len(borders) == 2 else borders
    return _upfirdn2d(input, filter, up, down, borders, flip_filter, float(gain))


@operator(lambda input, *_: torch.empty_like(input, memory_format=torch.contiguous_format))
def _fused_bias_leakyrelu(
    input: Tensor, bias: Tensor, reference: Tensor, is_gradient: bool, negative_slope: float, scale: float
) -> Tensor:
    settings = 3, int(is_gradient), negative_slope, scale
    return layers.fused_bias_leakyrelu(input, bias, reference, *settings).contiguous()


def _save_reference(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, bias, reference, is_gradient, *ctx.settings = inputs
    ctx.save_for_backward(reference if is_gradient else output)
    ctx.has_bias = bias.numel() > 0


def _fused_bias_leakyrelu_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    (reference,) = ctx.saved_tensors
    grad_input = _fused_bias_leakyrelu(grad, grad.new_empty(0), reference, True, *ctx.settings)
    grad_bias = grad_input.transpose(0, 1).flatten(1).sum(1) if ctx.has_bias else None
    return grad_input, grad_bias, None, None, None, None


_fused_bias_leakyrelu.register_autograd(_fused_bias_leakyrelu_backward, _save_reference)


def fused_bias_leakyrelu(input: Tensor, bias: Tensor, negative_slope: float = 0.2, scale: float = 2**0.5) -> Tensor:
    """Adds a bias of shape (C,), applies a leaky ReLU, and multiplies by `scale`. The input has shape (N, C, ...).

    It can be differentiated any number of times.
    """
    return _fused_bias_leakyrelu(
        input, bias.type_as(input), input.new_empty(0), False, float(negative_slope), float(scale)
    )


@filling_operator(
    layers.tin_shift_forward,
    "input shift output",
    layers.tin_shift_backward,
    "grad_output shift grad_input",
    batched="input shift",
)
def _tin_shift(input: Tensor, shift: Tensor) -> Tensor:
    return input.new_empty(input.shape)


def tin_shift(input: Tensor, shift: Tensor) -> Tensor:
    """Moves groups of channels along time by whole steps, and fills the gaps with zeros.

    Args:
        input: The features, of shape (N, T, C, H * W).
        shift: The number of steps for each of G groups, of shape (N, G), int32. Positive numbers move to later times.

    Raises:
        ValueError: C is not a multiple of G.
    """
    if input.size(2) % shift.size(1):
        raise ValueError(f"{input.size(2)} channels cannot be divided into {shift.size(1)} groups.")
    return _tin_shift(input, shift)


_Array = npt.NDArray[Any]


def _tensor(values: Tensor | _Array) -> Tensor:
    return torch.from_numpy(values) if isinstance(values, np.ndarray) else values


@operator(lambda kernel_mask, label, *_: label.new_empty(label.shape, dtype=torch.int))
def _contour_expand(
    kernel_mask: Tensor, internal_kernel_label: Tensor, min_kernel_area: int, kernel_num: int
) -> Tensor:
    regions = layers.contour_expand(kernel_mask, internal_kernel_label, min_kernel_area, kernel_num)
    return internal_kernel_label.new_tensor(regions, dtype=torch.int).view(internal_kernel_label.shape)


def contour_expand(
    kernel_mask: Tensor | _Array, internal_kernel_label: Tensor | _Array, min_kernel_area: int, kernel_num: int
) -> list[list[int]]:
    """Grows text regions from their smallest kernels into the largest ones.

    Args:
        kernel_mask: The kernels, of shape (K, H, W), positive inside of a kernel. The largest ones come first.
        internal_kernel_label: The region index of each pixel of the smallest kernels, of shape (H, W), int32. 0 means
            no region.
        min_kernel_area: The minimum number of pixels of a kernel. Smaller ones are dropped.
        kernel_num: The number of regions, including region 0.

    Returns:
        The region index of each pixel, as one list per row.
    """
    labels = _contour_expand(_tensor(kernel_mask), _tensor(internal_kernel_label), min_kernel_area, kernel_num)
    return labels.tolist()


def _region_sizes(score: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
    number = torch.library.get_ctx().new_dynamic_size()
    return score.new_empty(number, dtype=torch.double), score.new_empty(arguments[4], dtype=torch.long)


@selecting_operator(_region_sizes)
def _pixel_group(
    score: Tensor,
    mask: Tensor,
    embedding: Tensor,
    kernel_label: Tensor,
    kernel_contour: Tensor,
    kernel_region_num: int,
    distance_threshold: float,
) -> tuple[Tensor, Tensor]:
    tensors = score, mask, embedding, kernel_label, kernel_contour
    regions = layers.pixel_group(*tensors, kernel_region_num, distance_threshold)
    values = [value for region in regions for value in region]
    sizes = score.new_tensor([len(region) for region in regions], dtype=torch.long)
    return score.new_tensor(values, dtype=torch.double), sizes


def pixel_group(
    score: Tensor | _Array,
    mask: Tensor | _Array,
    embedding: Tensor | _Array,
    kernel_label: Tensor | _Array,
    kernel_contour: Tensor | _Array,
    kernel_region_num: int,
    distance_threshold: float,
) -> list[list[float]]:
    """Grows text regions from their kernels to neighboring pixels with similar embeddings.

    Args:
        score: The score of each pixel, of shape (H, W).
        mask: Whether each pixel may be added to a region, of shape (H, W), bool.
        embedding: Pixel embeddings, of shape (H, W, D).
        kernel_label: The region index of each pixel, of shape (H, W), int32. 0 means no region.
        kernel_contour: The pixels that regions grow from are positive, of shape (H, W).
        kernel_region_num: The number of regions, including region 0.
        distance_threshold: The maximum distance between a pixel's embedding and the region's mean embedding.

    Returns:
        One list per region: the mean score, the number of pixels, and the x and y coordinates of each pixel.
    """
    tensors = (_tensor(each) for each in (score, mask, embedding, kernel_label, kernel_contour))
    values, sizes = _pixel_group(*tensors, kernel_region_num, float(distance_threshold))  # type: ignore[call-arg, arg-type]
    return [part.tolist() for part in torch.split(values, sizes.tolist())]
