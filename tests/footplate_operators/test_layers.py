"""Compares losses and layers with plain loops and with autograd."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F

from footplate_operators import create_extension, layers

RANDOM = torch.Generator().manual_seed(11)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["sigmoid", "softmax"])
def test_focal_loss(kind: str, weighted: bool) -> None:
    leaf = torch.randn(6, 4, generator=RANDOM, dtype=torch.float64).requires_grad_()
    logits, target = leaf.detach(), torch.tensor([0, 3, 4, 1, 4, 2])  # 4 is the background
    weight = torch.tensor([1.0, 2.0, 0.5, 3.0], dtype=torch.float64) if weighted else torch.empty(0)
    gradient = torch.zeros_like(logits)
    if kind == "sigmoid":
        found = torch.zeros_like(logits)
        layers.sigmoid_focal_loss_forward(logits, target, weight, found, gamma=2.0, alpha=0.25)
        layers.sigmoid_focal_loss_backward(logits, target, weight, gradient, gamma=2.0, alpha=0.25)
        hot = F.one_hot(target, 5)[:, :4].double()
        entropy, alpha = F.binary_cross_entropy_with_logits(leaf, hot, reduction="none"), 0.75 - 0.5 * hot
    else:
        target = torch.where(target == 4, -1, target)
        found, chances = torch.zeros(6, dtype=torch.float64), logits.softmax(1)
        layers.softmax_focal_loss_forward(chances, target, weight, found, 2.0, 0.25)
        layers.softmax_focal_loss_backward(chances, target, weight, torch.zeros(6), gradient, 2.0, 0.25)
        entropy, alpha = F.cross_entropy(leaf, target, reduction="none", ignore_index=-1), torch.tensor(0.25)
    expected = alpha * (1 - torch.exp(-entropy)) ** 2 * entropy
    if weighted:
        weights = weight[target.clamp(0, 3)]
        expected = expected * (weights[:, None] if kind == "sigmoid" else weights)
    torch.testing.assert_close(found, expected.detach())
    torch.testing.assert_close(gradient, torch.autograd.grad(expected.sum(), leaf)[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_sigmoid_focal_loss_of_confident_mistakes(dtype: torch.dtype) -> None:
    logits, target = torch.tensor([[-30.0, 40.0], [200.0, -200.0]], dtype=dtype), torch.tensor([0, -1])
    loss, gradient = torch.zeros_like(logits), torch.zeros_like(logits)
    layers.sigmoid_focal_loss_forward(logits, target, torch.empty(0), loss, 2.0, 0.25)
    layers.sigmoid_focal_loss_backward(logits, target, torch.empty(0), gradient, 2.0, 0.25)
    assert loss.tolist() == [[7.5, 30.0], [60.0, 0.0]]  # at most 80 before the factor
    assert gradient.tolist() == [[-0.25, 0.75], [0.75, 0.0]]


@pytest.mark.parametrize("kind", [0, 1])
def test_psa_masks_smaller_than_the_map(kind: int) -> None:
    (rows, columns), (height, width) = (3, 5), (4, 6)
    masks = torch.randn(2, rows * columns, height, width, generator=RANDOM)
    output, expected = torch.rand(2, height * width, height, width), torch.zeros(2, height * width, height, width)
    for y, x, row, column in product(range(height), range(width), range(rows), range(columns)):
        near_y, near_x = y + row - rows // 2, x + column - columns // 2
        if 0 <= near_y < height and 0 <= near_x < width:
            own, near, value = y * width + x, near_y * width + near_x, masks[:, row * columns + column, y, x]
            if kind == 0:
                expected[:, near, y, x] = value
            else:
                expected[:, own, near_y, near_x] = value
    settings = kind, 2, height, width, rows, columns, rows // 2, columns // 2
    layers.psamask_forward(masks, output, *settings)
    assert torch.equal(output, expected)
    grad, gradient = torch.randn(expected.shape, generator=RANDOM), torch.rand_like(masks)
    layers.psamask_backward(grad, gradient, *settings)
    torch.testing.assert_close((gradient * masks).sum(), (grad * expected).sum())


@pytest.mark.parametrize("naive", [True, False])
def test_carafe(naive: bool) -> None:
    kernel, groups, scale = 3, 2, 2
    features = torch.randn(2, 4, 3, 5, generator=RANDOM)
    masks = torch.rand(2, groups * kernel**2, 6, 10, generator=RANDOM)
    output, of_features, of_masks = torch.zeros(2, 4, 6, 10), torch.zeros_like(features), torch.zeros_like(masks)
    settings = {"kernel_size": kernel, "group_size": groups, "scale_factor": scale}
    grad = torch.randn(2, 4, 6, 10, generator=RANDOM)
    if naive:
        layers.carafe_naive_forward(features, masks, output, **settings)
        layers.carafe_naive_backward(grad, features, masks, of_features, of_masks, **settings)
    else:
        buffer = torch.zeros_like(features)
        layers.carafe_forward(features, masks, buffer, output.clone(), masks.clone(), output, **settings)
        unused = torch.zeros(1)
        buffers = (unused, unused, unused, unused)
        layers.carafe_backward(grad, buffer, masks, *buffers, of_features, of_masks, kernel, groups, scale)
    padded = F.pad(features, (1, 1, 1, 1))
    expected = torch.zeros_like(output)
    for channel in range(4):
        for y in range(6):
            for x in range(10):
                patch = padded[:, channel, y // 2 : y // 2 + 3, x // 2 : x // 2 + 3].flatten(1)
                weights = masks[:, channel // 2 * 9 : channel // 2 * 9 + 9, y, x]
                expected[:, channel, y, x] = (patch * weights).sum(1)
    torch.testing.assert_close(output, expected)
    for gradient, tensor in ((of_features, features), (of_masks, masks)):  # linear in each
        assert (gradient * tensor).sum().item() == pytest.approx((grad * output).sum().item(), rel=1e-4)


def test_pixel_group() -> None:
    label = torch.tensor([[1, 0, 0, 0, 2], [1, 0, 0, 0, 2]], dtype=torch.int32)
    embedding = torch.tensor([0.0, 0.1, 0.2, 0.9, 1.0]).expand(2, 5)[..., None]
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 1, 1]], dtype=torch.bool)
    score = torch.full((2, 5), 0.5)
    found = layers.pixel_group(score, mask, embedding, label, (label > 0).byte(), 3, 0.3)
    assert found[0] == [0.0, 0.0]
    assert found[1] == [0.5, 5.0, 0, 0, 1, 0, 2, 0, 0, 1, 1, 1]
    assert found[2] == [0.5, 4.0, 3, 0, 4, 0, 3, 1, 4, 1]


def test_contour_expand() -> None:
    mask = torch.ones(2, 3, 9, dtype=torch.uint8)
    mask[0, 2] = mask[1] = 0
    kernels = torch.zeros(3, 9, dtype=torch.int32)
    kernels[0, 1], kernels[:2, 7:9], kernels[1, 4] = 1, 2, 3
    grown = [[1, 1, 1, 1, 3, 2, 2, 2, 2], [1, 1, 1, 3, 3, 3, 2, 2, 2], [0] * 9]
    assert layers.contour_expand(mask, kernels, 1, 4) == grown
    assert layers.contour_expand(mask, kernels, 2, 4)[:2] == [[2] * 9] * 2  # the other kernels have one pixel


@pytest.mark.parametrize("flip", [False, True])
def test_upfirdn2d(flip: bool) -> None:
    image, kernel = torch.randn(1, 2, 4, 5, generator=RANDOM), torch.randn(3, 2, generator=RANDOM)
    found = layers.upfirdn2d(image, kernel, 2, 3, 2, 1, 1, 2, 3, -1, flip, 1.5)
    spread = torch.zeros(1, 2, 12, 10)
    spread[:, :, ::3, ::2] = image
    spread = F.pad(spread, (1, 2, 3, 0))[:, :, :-1]
    taps = kernel if flip else kernel.flip(0, 1)
    height, width = spread.size(2) - 2, spread.size(3) - 1
    expected = torch.zeros(1, 2, height, width)
    for y in range(height):
        for x in range(width):
            expected[:, :, y, x] = (spread[:, :, y : y + 3, x : x + 2] * taps).sum((2, 3)) * 1.5
    torch.testing.assert_close(found, expected[:, :, :, ::2])


def test_an_operator_that_is_missing_says_what_to_install() -> None:
    with pytest.raises(
        NotImplementedError,
        match=r"operator 'prroi_pool_forward' of 'mmcv._ext'\. To use it, install mmcv with compiled",
    ):
        create_extension().prroi_pool_forward(torch.zeros(1))


def test_tin_shift() -> None:
    features = torch.arange(1.0, 25).view(2, 3, 4, 1)
    moved, gradient = torch.zeros_like(features), torch.zeros_like(features)
    shift = torch.tensor([[1, -2], [0, 3]], dtype=torch.int32)
    layers.tin_shift_forward(features, shift, moved)
    layers.tin_shift_backward(features, shift, gradient)
    first = [[0, 0, 11, 12], [1, 2, 0, 0], [5, 6, 0, 0]]
    second = [[13, 14, 0, 0], [17, 18, 0, 0], [21, 22, 0, 0]]
    assert moved.squeeze(3).tolist() == gradient.squeeze(3).tolist() == [first, second]
