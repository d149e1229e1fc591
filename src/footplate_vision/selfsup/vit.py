"""A small vision transformer with optional patch masking."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from footplate.checks import check_count
from footplate.errors import ArgumentError
from footplate.models import BaseModule
from footplate.models.base_module import InitCfg
from footplate.registry import MODELS


class Masked(NamedTuple):
    """The output of an encoder for the visible patches.

    Attributes:
        tokens: ``(N, 1 + K, D)``, the class token and the tokens of the K visible patches.
        seen: The indices of the visible patches, ``(N, K)``, int64.
        mask: ``(N, L)``, float, 1 for masked and 0 for visible patches.
    """

    tokens: Tensor
    seen: Tensor
    mask: Tensor


@MODELS.register_module()
class MAEViT(BaseModule):
    """A vision transformer for square images of a fixed size.

    `forward` computes features. `forward_masked` encodes a random subset of the patches, for masked autoencoders.

    Args:
        img_size: The height and width of the images.
        patch_size: The height and width of a patch.
        in_channels: The number of image channels.
        embed_dims: The embedding dimension.
        num_layers: The number of transformer layers.
        num_heads: The number of attention heads of each layer.
        mask_ratio: The fraction of patches that `forward_masked` masks.
        init_cfg: See `BaseModule`; by default, linear layers use Xavier uniform initialization.

    Raises:
        ArgumentError: `img_size` is not a multiple of `patch_size`, `embed_dims` is not a multiple of 4, `embed_dims`
            is not a multiple of `num_heads`, `num_layers` is not positive, or `mask_ratio` masks no patches or all of
            them.

    Source: Dosovitskiy et al., "An Image is Worth 16x16 Words", arXiv:2010.11929; He et al., "Masked Autoencoders Are
        Scalable Vision Learners", arXiv:2111.06377.

    Example:
        >>> import torch
        >>> MAEViT(img_size=28, patch_size=7, in_channels=1)(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 96])
    """

    def __init__(
        self,
        img_size: int = 28,
        patch_size: int = 7,
        in_channels: int = 3,
        *,
        embed_dims: int = 96,
        num_layers: int = 4,
        num_heads: int = 4,
        mask_ratio: float = 0.75,
        init_cfg: InitCfg = None,
    ) -> None:
        super().__init__(init_cfg or {"type": "Xavier", "layer": "Linear", "distribution": "uniform"})
        if img_size % patch_size:
            raise ArgumentError(f"img_size {img_size} is not divisible by patch_size {patch_size}", key="patch_size")
        self.img_size = img_size
        self.patch_size = patch_size
        self.num_patches = (img_size // patch_size) ** 2
        self.num_seen = int(self.num_patches * (1 - mask_ratio))
        if not 0 < self.num_seen < self.num_patches:
            raise ArgumentError(
                f"mask_ratio must mask at least one of the {self.num_patches} patches, but not all", key="mask_ratio"
            )
        self.patch_embed = nn.Conv2d(in_channels, embed_dims, patch_size, patch_size)
        self.pos_embed = nn.Parameter(position_codes(embed_dims, img_size // patch_size), requires_grad=False)
        self.cls_token = nn.Parameter(torch.empty(1, 1, embed_dims))
        self.layers = make_layers(num_layers, embed_dims, num_heads)
        self.norm = nn.LayerNorm(embed_dims)
        nn.init.xavier_uniform_(self.patch_embed.weight.flatten(1))
        init_attention(self.layers)
        nn.init.normal_(self.cls_token, std=0.02)

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns the mean patch token of each image as features of shape ``(N, embed_dims)``."""
        return self._encode(self._embed(inputs))[:, 1:].mean(dim=1)

    def forward_masked(self, inputs: Tensor) -> Masked:
        """Encodes a random subset of each image's patches."""
        noise = torch.rand(len(inputs), self.num_patches, device=inputs.device)
        seen = noise.argsort(dim=1)[:, : self.num_seen]
        patches = self._embed(inputs)
        tokens = self._encode(patches.gather(1, seen[..., None].expand(-1, -1, patches.shape[2])))
        return Masked(tokens, seen, torch.ones_like(noise).scatter(1, seen, 0.0))

    def _embed(self, inputs: Tensor) -> Tensor:
        height, width = inputs.shape[2:]
        if (height, width) != (self.img_size, self.img_size):
            raise ArgumentError(
                f"the images are {height}x{width}, but img_size is {self.img_size}", key="model.backbone.img_size"
            )
        return self.patch_embed(inputs).flatten(2).transpose(1, 2) + self.pos_embed  # type: ignore[no-any-return]

    def _encode(self, patches: Tensor) -> Tensor:
        tokens = torch.cat([self.cls_token.expand(patches.shape[0], -1, -1), patches], dim=1)
        for layer in self.layers:
            tokens = layer(tokens)
        return self.norm(tokens)  # type: ignore[no-any-return]


def make_layers(count: int, width: int, num_heads: int) -> nn.ModuleList:
    """Builds `count` pre-norm transformer layers without dropout.

    Raises:
        ArgumentError: `count` is not positive, or `width` is not divisible by `num_heads`.
    """
    check_count("num_layers", count)
    if width % num_heads:
        raise ArgumentError(f"an embedding dimension of {width} is not divisible by {num_heads} attention heads")
    return nn.ModuleList(
        nn.TransformerEncoderLayer(width, num_heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        for _ in range(count)
    )


def init_attention(layers: Any) -> None:
    """Initializes the query, key and value weights of each layer with Xavier uniform initialization.

    Initializers for linear layers do not cover these weights.
    """
    for layer in layers:
        for weights in layer.self_attn.in_proj_weight.chunk(3):
            nn.init.xavier_uniform_(weights)


def position_codes(width: int, side: int) -> Tensor:
    """Returns 2D sine-cosine position embeddings of shape ``(1, side * side, width)``.

    Raises:
        ArgumentError: `width` is not a multiple of 4.

    Source: Vaswani et al., "Attention Is All You Need", arXiv:1706.03762, section 3.5, applied to rows and columns.
    """
    if width % 4:
        raise ArgumentError("the embedding dimension must be a multiple of 4", found=width)
    places = torch.arange(side, dtype=torch.float32)
    waves = places[:, None] / 10_000 ** (torch.arange(width // 4) / (width / 4))
    along = torch.cat([waves.sin(), waves.cos()], dim=1)
    down, right = along[:, None].expand(-1, side, -1), along[None].expand(side, -1, -1)
    return torch.cat([right, down], dim=2).reshape(1, side * side, width)
