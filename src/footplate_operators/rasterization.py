"""Draws polygons and polylines so that the image has a gradient with respect to the vertices.

Source: Lazarow et al., Instance Segmentation with Mask-supervised Polygonal Boundary Transformers (2022).
"""

import torch
from torch import Tensor

from footplate_operators.sampling import gradients

_BOUNDARY, _MASK = 0, 1  # 2 draws a mask with sharp edges


def _draw(vertices: Tensor, width: int, height: int, smoothness: float, mode: int) -> tuple[Tensor, Tensor]:
    """Returns the images, of shape (B, H, W), and the index of the nearest edge to each pixel.

    See `forward_rasterize` for the arguments.
    """
    y, x = (torch.arange(size, device=vertices.device) for size in (height, width))
    pixels = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).to(vertices.dtype)
    nearest = vertices.new_full((len(vertices), height, width), torch.inf)
    number, is_inside = torch.zeros_like(nearest, dtype=torch.int), torch.zeros_like(nearest, dtype=torch.bool)
    following = vertices.roll(-1, 1)
    for index in range(vertices.size(1) - (mode == _BOUNDARY)):
        start, end = vertices[:, index, None, None], following[:, index, None, None]
        edge, offset = end - start, pixels - start
        along = (offset * edge).sum(-1) / (edge.square().sum(-1) + 1e-5)
        along = along[..., None]
        gap = torch.where(along < 0, offset, torch.where(along > 1, pixels - end, offset - along * edge))
        squared = gap.square().sum(-1)
        number = torch.where(squared < nearest, index, number)
        nearest = torch.where(squared < nearest, squared, nearest)
        # The point is inside if a ray from it along the x axis crosses an odd number of edges.
        spans = (start[..., 1] > pixels[..., 1]) != (end[..., 1] > pixels[..., 1])
        slope = edge[..., 0] / torch.where(edge[..., 1] == 0, 1, edge[..., 1])
        is_inside ^= spans & (offset[..., 0] < slope * offset[..., 1])
    if mode == _BOUNDARY:
        return (-nearest / smoothness).exp(), number
    sign = torch.where(is_inside, 1.0, -1.0).to(vertices.dtype)
    return (sign * nearest / smoothness).sigmoid() if mode == _MASK else sign, number


def forward_rasterize(
    vertices: Tensor, image: Tensor, edges: Tensor, width: int, height: int, smoothness: float, mode: int
) -> list[Tensor]:
    """Draws polygons, or polylines for mode 0. Returns the images and the nearest edges.

    Args:
        vertices: The vertices x and y, in pixels, of shape (B, V, 2).
        image: An output with the images, of shape (B, H, W).
        edges: An output with the index of the nearest edge to each pixel, of shape (B, H, W). Not written for mode 2.
        width: The width of the images.
        height: The height of the images.
        smoothness: The squared distances to the nearest edge are divided by this value.
        mode: 0 draws exp(-distance) for polylines, 1 draws the sigmoid of the distance for polygons, which is negative
            outside, and 2 draws 1 inside and -1 outside of polygons.
    """
    drawn, nearest = _draw(vertices, width, height, smoothness, mode)
    image.copy_(drawn)
    if mode in (_BOUNDARY, _MASK):
        edges.copy_(nearest)
    return [image, edges]


def backward_rasterize(
    vertices: Tensor,
    image: Tensor,
    edges: Tensor,
    grad_image: Tensor,
    grad_vertices: Tensor,
    width: int,
    height: int,
    smoothness: float,
    mode: int,
) -> Tensor:
    """Writes the gradient with respect to the vertices to `grad_vertices`, and returns it.

    It is the derivative of the image for all modes. The compiled operator computes the derivative for mode 1 always.
    """
    if mode not in (_BOUNDARY, _MASK):
        return grad_vertices.zero_()
    (found,) = gradients(lambda points: _draw(points, width, height, smoothness, mode)[0], (vertices,), grad_image)
    return grad_vertices.copy_(found)
