"""Operators for losses and layers: focal loss, CARAFE, PSA masks, rotated filters, resampling and others.

Functions that do not return a tensor or list write their results to tensors allocated by the caller.

Sources: Lin et al., Focal Loss (2017); Wang et al., CARAFE (2019); Zhao et al., PSANet (2018); Han et al., S2ANet
(2021); Wang et al., PSENet (2019) and PAN (2019); Karras et al., StyleGAN2 (2020); Shao et al., Temporal
Interlacing Network (2020).
"""

from collections import deque
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from footplate_operators.compiled import compute_type
from footplate_operators.sampling import blocks, gradients, operators


class _FocalTerms(NamedTuple):
    """The terms of `balance * error**gamma * entropy` for a block of rows. Tensors have shape (rows, C).

    Attributes:
        rows: The slice of the rows.
        error: The probability of the wrong answer.
        entropy: The cross entropy: the negative logarithm of the probability of the right answer.
        sign: 1 if the error increases with the logit, and -1 otherwise.
        balance: The factors of the losses.
    """

    rows: slice
    error: Tensor
    entropy: Tensor
    sign: Tensor
    balance: Tensor


def _focal_terms(input: Tensor, target: Tensor, weight: Tensor, alpha: float, output: Tensor) -> Iterator[_FocalTerms]:
    if not input.numel():
        return
    # Scattering one sign per row is faster than comparing each class with the target.
    place = target.long().clamp(0, input.size(1) - 1)[:, None]
    change = torch.where(place == target[:, None], -1.0, 1.0).to(compute_type(input))
    # On a CPU, blocks that fit into the cache are faster. On a GPU, each block takes time to launch.
    arguments = () if input.device.type == "cpu" else (input, output)
    for rows in blocks(len(input), *arguments, work=8 * input.numel() * input.element_size()):
        sign = torch.ones_like(input[rows], dtype=change.dtype).scatter_(1, place[rows], change[rows])
        balance = sign.mul(0.5 - alpha).add_(0.5)
        if weight.numel():
            balance = balance * weight[target[rows].clamp(max=len(weight) - 1)][:, None]
        odds = (input[rows] * sign).clamp_(max=80).exp_()  # of the wrong answer; the limit avoids an overflow
        total = 1 + odds
        yield _FocalTerms(rows, odds.div_(total), total.log_(), sign, balance)


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Writes the focal loss of logits of shape (N, C) for class indices of shape (N,) to `output`, of shape (N, C).

    Class index C is the background. `weight` contains a factor for each class, or is empty.
    """
    for rows, error, entropy, _, balance in _focal_terms(input, target, weight, alpha, output):
        output[rows] = error.pow_(gamma).mul_(entropy).mul_(balance)


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Writes the gradient of the summed loss to `grad_input`."""
    for rows, error, entropy, sign, balance in _focal_terms(input, target, weight, alpha, grad_input):
        grad = entropy.mul_(1 - error).mul_(gamma).add_(error).mul_(error.pow_(gamma))
        grad_input[rows] = grad.mul_(balance).mul_(sign)


def _softmax_focal_loss(logits: Tensor, target: Tensor, weight: Tensor, gamma: float, alpha: float) -> Tensor:
    counts = (target >= 0) & (target < logits.size(1))
    where = target.clamp(0, logits.size(1) - 1)
    chance = logits.softmax(1).gather(1, where[:, None])[:, 0]
    loss = -alpha * (1 - chance) ** gamma * chance.clamp(min=torch.finfo(chance.dtype).tiny).log()
    if weight.numel():
        loss = loss * weight[where]
    return loss * counts


def softmax_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Computes the focal loss for probabilities of shape (N, C) and class indices of shape (N,).

    Writes the loss to `output`, or 0 for class indices outside the range 0 to C - 1. `weight` contains a factor for
    each class, or is empty.
    """
    for rows in blocks(len(input), input):
        output[rows] = _softmax_focal_loss(input[rows].log(), target[rows], weight, gamma, alpha)


def softmax_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, buff: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Writes the gradient of the summed loss with respect to the logits to `grad_input`. Ignores `buff`."""
    for rows in blocks(len(input), input, grad_input):
        labels = target[rows]
        grad_input[rows] = gradients(
            lambda logits, labels=labels: _softmax_focal_loss(logits, labels, weight, gamma, alpha),
            (input[rows].log(),),
        )[0]


def _carafe(
    features: Tensor, masks: Tensor, kernel_size: int, group_size: int, scale_factor: int, padding: tuple[int, int]
) -> Tensor:
    """Upsamples features of shape (N, C, H, W) with a separate kernel for each output pixel.

    `masks` contains the kernels and has shape (N, groups * K * K, s * H, s * W), where K is `kernel_size`, `groups` is
    `group_size` and s is `scale_factor`. `padding` contains the rows of zeros above and below the features, which
    determine the number of output rows.
    """
    count, channels, _, width = features.shape
    border = (kernel_size - 1) // 2
    neighbors = F.unfold(F.pad(features, (border, border, *padding)), kernel_size)
    neighbors = neighbors.view(count, group_size, channels // group_size, kernel_size**2, -1, width)
    height = neighbors.size(4)
    kernels = masks.unflatten(1, (group_size, kernel_size**2)).unflatten(4, (width, scale_factor))  # type: ignore[no-untyped-call]
    kernels = kernels.unflatten(3, (height, scale_factor))
    output = torch.einsum("ngckhw,ngkhiwj->ngchiwj", neighbors, kernels)
    return output.reshape(count, channels, height * scale_factor, width * scale_factor)


def _carafe_rows(
    features: Tensor, masks: Tensor, output: Tensor, kernel_size: int, scale_factor: int
) -> Iterator[tuple[slice, slice, tuple[int, int]]]:
    """Yields the rows of features, the rows of the output that depend on them alone, and `_carafe`'s padding."""
    height, border = features.size(2), (kernel_size - 1) // 2
    work = 5 * kernel_size**2 * features.numel() * features.element_size()
    for rows in blocks(height, features, masks, output, work=work):
        first, last = max(rows.start - border, 0), min(rows.stop + border, height)
        padding = border - rows.start + first, border - last + rows.stop
        yield slice(first, last), slice(rows.start * scale_factor, rows.stop * scale_factor), padding


def carafe_naive_forward(
    features: Tensor, masks: Tensor, output: Tensor, kernel_size: int, group_size: int, scale_factor: int
) -> None:
    """Writes the result of CARAFE to `output`; see `_carafe`."""
    for rows, target, padding in _carafe_rows(features, masks, output, kernel_size, scale_factor):
        settings = kernel_size, group_size, scale_factor, padding
        output[:, :, target] = _carafe(features[:, :, rows], masks[:, :, target], *settings)


def carafe_naive_backward(
    grad_output: Tensor,
    features: Tensor,
    masks: Tensor,
    grad_features: Tensor,
    grad_masks: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Writes the gradients with respect to the features and the masks to `grad_features` and `grad_masks`."""
    grad_features.zero_()
    for rows, target, padding in _carafe_rows(features, masks, grad_output, kernel_size, scale_factor):
        run = partial(
            _carafe, kernel_size=kernel_size, group_size=group_size, scale_factor=scale_factor, padding=padding
        )
        inputs = features[:, :, rows], masks[:, :, target]
        grad, grad_masks[:, :, target] = gradients(run, inputs, grad_output[:, :, target])
        grad_features[:, :, rows] += grad


def carafe_backward(grad_output: Tensor, features: Tensor, masks: Tensor, *arguments: Any, **settings: Any) -> None:
    """Like `carafe_naive_backward`. Ignores the four buffers before the gradients."""
    carafe_naive_backward(grad_output, features, masks, *arguments[4:], **settings)


def carafe_forward(features: Tensor, masks: Tensor, rfeatures: Tensor, *arguments: Any, **settings: Any) -> None:
    """Writes the result of CARAFE to the output. See `_carafe` for the settings.

    Stores the features in `rfeatures` for `carafe_backward`. Ignores the two buffers before the output.
    """
    rfeatures.resize_(features.shape).copy_(features)
    carafe_naive_forward(features, masks, *arguments[2:], **settings)


def _rows_of_masks(
    masks: Tensor,
    attention: Tensor,
    psa_type: int,
    num_: int,
    h_feature: int,
    w_feature: int,
    h_mask: int,
    w_mask: int,
    *_: int,
    **__: int,
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Yields views of the masks of each row of pixels, and of their part of the attention map.

    The first view has shape (N, rows, w_mask, W), and the second one has shape (N, rows, W, W): for each pixel in the
    last dimension, the mask rows that are in the map, and the neighbors there. Also yields the mask column of each
    neighbor, in the shape of the second view, and whether there is one, of shape (W, W). See `psamask_forward`.
    """
    count, (height, width) = len(masks), masks.shape[2:]
    masks = masks.view(count, h_mask, w_mask, height, width)
    attention = attention.view(count, height, width, height, width)
    if psa_type == 1:
        attention = attention.permute(0, 3, 4, 1, 2)
    place = torch.arange(width, device=masks.device)
    column = place[:, None] - place + (w_mask - 1) // 2
    inside = (column >= 0) & (column < w_mask)
    for y in range(height):
        top = y - (h_mask - 1) // 2  # the row of the map where the masks start
        neighbors = attention[:, max(0, top) : top + h_mask, :, y]
        columns = column.clamp(0, w_mask - 1).expand_as(neighbors)
        yield masks[:, max(0, -top) : height - top, :, y], neighbors, columns, inside


def psamask_forward(input: Tensor, output: Tensor, *settings: int, **named: int) -> None:
    """Converts PSA masks of shape (N, h_mask * w_mask, H, W) to an attention map of shape (N, H * W, H, W).

    A pixel's mask contains a weight for each neighbor. With type 0 (collect), dimension 1 of the map indexes the
    neighbor, and the last two dimensions index the pixel. Type 1 (distribute) swaps these roles. See `_rows_of_masks`
    for the settings, of which those for features are ignored.
    """
    output.zero_()
    for masks, neighbors, columns, inside in _rows_of_masks(input, output, *settings, **named):
        neighbors.copy_(torch.where(inside, masks.gather(2, columns), 0))


def psamask_backward(grad_output: Tensor, grad_input: Tensor, *settings: int, **named: int) -> None:
    """Writes the gradient of `psamask_forward` with respect to the masks to `grad_input`."""
    grad_input.zero_()
    for masks, neighbors, columns, inside in _rows_of_masks(grad_input, grad_output, *settings, **named):
        masks.scatter_add_(2, columns, torch.where(inside, neighbors, 0))


def masked_im2col_forward(
    im: Tensor,
    mask_h_idx: Tensor,
    mask_w_idx: Tensor,
    col: Tensor,
    kernel_h: int,
    kernel_w: int,
    pad_h: int,
    pad_w: int,
) -> None:
    """Writes the patches around selected pixels of an image to the columns of `col`.

    `im` has shape (1, C, H, W), and `col` has shape (C * kernel size, pixels). `mask_h_idx` and `mask_w_idx` contain
    the rows and columns of the pixels.
    """
    y = mask_h_idx.long() + torch.arange(kernel_h, device=im.device)[:, None]
    x = mask_w_idx.long() + torch.arange(kernel_w, device=im.device)[:, None]
    patches = col.view(im.size(1), kernel_h, kernel_w, len(mask_h_idx))
    for block in blocks(im.size(1), im, col):
        padded = F.pad(im[0, block], (pad_w, pad_w, pad_h, pad_h))
        patches[block] = padded[:, y[:, None], x[None]]


def masked_col2im_forward(
    col: Tensor, mask_h_idx: Tensor, mask_w_idx: Tensor, im: Tensor, height: int, width: int, channels: int
) -> None:
    """Writes each column of `col`, of shape (C, pixels), to a selected pixel of `im`, of shape (1, C, H, W).

    `mask_h_idx` and `mask_w_idx` contain the rows and columns of the pixels. Ignores `height` and `width`.
    """
    im[0, :, mask_h_idx.long(), mask_w_idx.long()] = col.view(channels, -1)


def _rotated_filters(input: Tensor, indices: Tensor) -> Tensor:
    """Returns rotated filters of shape (O * rotations, I * orientations, kernel height, kernel width).

    Args:
        input: The weights, of shape (O, I, orientations, kernel height, kernel width).
        indices: The new position of each weight after each rotation, counted from 1, of shape (orientations, kernel
            height, kernel width, rotations).
    """
    out_channels, in_channels, orientations, kernel_height, kernel_width = input.shape
    places = indices.flatten(0, 2).long() - 1  # (weights per filter, rotations)
    source = torch.empty_like(places)
    source.scatter_(0, places, torch.arange(len(places), device=input.device)[:, None].expand_as(places))
    rotated = input.flatten(2)[:, :, source.T].transpose(1, 2)
    return rotated.reshape(-1, in_channels * orientations, kernel_height, kernel_width)


active_rotated_filter_forward, active_rotated_filter_backward = operators(
    _rotated_filters, forward="input indices output", backward="grad_output indices grad_input"
)


def contour_expand(
    kernel_mask: Tensor, internal_kernel_label: Tensor, min_kernel_area: int, kernel_num: int
) -> list[list[int]]:
    """Grows text regions from their smallest kernels into the largest ones, one ring of pixels at a time.

    As mmcv does, it skips the kernels in between.

    Args:
        kernel_mask: The kernels, of shape (K, H, W), positive inside of a kernel. The largest ones come first.
        internal_kernel_label: The region index of each pixel of the smallest kernels, of shape (H, W). 0 means no
            region.
        min_kernel_area: The minimum number of pixels of a kernel. Smaller ones are dropped.
        kernel_num: The number of regions, including region 0.

    Returns:
        The region index of each pixel, as one list per row.
    """
    mask, labels = kernel_mask[0].cpu().numpy(), internal_kernel_label.cpu().numpy()
    sizes = np.bincount(labels.flatten(), minlength=1)
    regions = np.where((labels > 0) & (sizes[labels] >= min_kernel_area), labels, 0)
    grown = deque(zip(*regions.nonzero(), strict=True))
    height, width = regions.shape
    while grown:
        y, x = grown.popleft()
        for row, column in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if 0 <= row < height and 0 <= column < width and mask[row, column] and regions[row, column] == 0:
                regions[row, column] = regions[y, x]
                grown.append((row, column))
    return regions.tolist()  # type: ignore[no-any-return]


def pixel_group(
    score: Tensor,
    mask: Tensor,
    embedding: Tensor,
    kernel_label: Tensor,
    kernel_contour: Tensor,
    kernel_region_num: int,
    distance_threshold: float,
) -> list[list[float]]:
    """Grows text regions from their kernels to neighboring pixels with similar embeddings.

    Args:
        score: The score of each pixel, of shape (H, W).
        mask: Whether each pixel may be added to a region: a bool tensor of shape (H, W).
        embedding: Pixel embeddings of shape (H, W, D).
        kernel_label: The region index of each pixel, of shape (H, W). 0 means no region.
        kernel_contour: A tensor of shape (H, W), positive for the pixels that regions grow from.
        kernel_region_num: The number of regions, including region 0.
        distance_threshold: The maximum distance between a pixel's embedding and the region's mean embedding.

    Returns:
        One list per region: the mean score, the number of pixels, and the x and y coordinates of each pixel.
    """
    labels, takeable = kernel_label.cpu().numpy().copy(), mask.cpu().numpy()
    vectors, scores = embedding.cpu().numpy(), score.cpu().numpy()
    means = {
        label: vectors[labels == label].mean(0) for label in range(1, kernel_region_num) if (labels == label).any()
    }
    grown = deque(zip(*((labels > 0) & (kernel_contour.cpu().numpy() > 0)).nonzero(), strict=True))
    height, width = labels.shape
    while grown:
        y, x = grown.popleft()
        label = labels[y, x]
        for row, column in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if not (0 <= row < height and 0 <= column < width and takeable[row, column] and labels[row, column] == 0):
                continue
            difference = means[label] - vectors[row, column]
            if (difference * difference).sum() < distance_threshold**2:
                labels[row, column] = label
                grown.append((row, column))
    regions = []
    for label in range(kernel_region_num):
        ys, xs = ((labels == label) & (label > 0)).nonzero()
        mean = float(scores[ys, xs].mean()) if len(ys) else 0.0
        pixels = [float(each) for pair in zip(xs, ys, strict=True) for each in pair]
        regions.append([mean, float(len(ys)), *pixels])
    return regions


def upfirdn2d(
    input: Tensor,
    filter: Tensor,
    upx: int,
    upy: int,
    downx: int,
    downy: int,
    padx0: int,
    padx1: int,
    pady0: int,
    pady1: int,
    flip: bool,
    gain: float,
) -> Tensor:
    """Upsamples images by inserting zeros, pads or crops them, and then filters and downsamples them.

    Args:
        input: The images, of shape (N, C, H, W).
        filter: A filter of shape (kernel height, kernel width).
        upx: Horizontal upsampling factor.
        upy: Vertical upsampling factor.
        downx: Horizontal downsampling factor.
        downy: Vertical downsampling factor.
        padx0: Padding on the left; negative values crop.
        padx1: Padding on the right.
        pady0: Padding at the top.
        pady1: Padding at the bottom.
        flip: Whether to compute a correlation instead of a convolution.
        gain: The factor for the result.
    """
    count, channels, height, width = input.shape
    spread = F.pad(input.view(count, channels, height, 1, width, 1), (0, upx - 1, 0, 0, 0, upy - 1))
    spread = F.pad(spread.view(count, channels, height * upy, width * upx), (padx0, padx1, pady0, pady1))
    kernel = (filter if flip else filter.flip(0, 1)).to(input.dtype) * gain
    kernel = kernel.expand(channels, 1, -1, -1)
    return F.conv2d(spread, kernel, groups=channels)[:, :, ::downy, ::downx]


def fused_bias_leakyrelu(
    input: Tensor, bias: Tensor, refer: Tensor, act: int, grad: int, alpha: float, scale: float
) -> Tensor:
    """Adds `bias` to `input`, applies a leaky ReLU with the negative slope `alpha`, and multiplies by `scale`.

    With `grad=1`, returns the gradient instead. In this case, `input` is the output's gradient, and `refer` is the
    output. Ignores `act`.
    """
    if bias.numel():
        input = input + bias.view(1, -1, *[1] * (input.dim() - 2))
    reference = refer if grad else input
    return torch.where(reference > 0, input, input * alpha) * scale


def tin_shift_forward(input: Tensor, shift: Tensor, output: Tensor) -> None:
    """Moves groups of channels along time by whole steps, and fills the gaps with zeros.

    Args:
        input: The features, of shape (N, T, C, H * W).
        shift: The number of steps for each of G groups, of shape (N, G). Positive numbers move to later times.
        output: The output, with the same shape as `input`.
    """
    steps = shift.repeat_interleave(input.size(2) // shift.size(1), 1)[:, None]
    times = torch.arange(input.size(1), device=input.device)[:, None] - steps
    inside = (times >= 0) & (times < input.size(1))
    moved = input.gather(1, times.clamp(0, input.size(1) - 1)[..., None].expand_as(input))
    output.copy_(torch.where(inside[..., None], moved, 0))


# mmcv moves the gradient in the direction of the input, not back.
tin_shift_backward = tin_shift_forward
