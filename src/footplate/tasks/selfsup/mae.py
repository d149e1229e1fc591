"""Masked autoencoders, which reconstruct masked patches of an image from the visible ones."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from footplate.errors import ArgumentError
from footplate.models import BaseModule
from footplate.models.base_module import InitCfg
from footplate.registry import MODELS
from footplate.tasks.selfsup.base import BaseSelfSup
from footplate.tasks.selfsup.sample import SelfSupDataSample
from footplate.tasks.selfsup.vit import Masked, attention_weights, make_layers, position_codes


@MODELS.register_module()
class MAEPretrainDecoder(BaseModule):
    """Predicts the pixels of all patches from the tokens of the visible patches.

    Args:
        num_patches: The number of patches of an image, a square number.
        patch_size: The height and width of a patch.
        in_chans: The number of image channels.
        embed_dim: The embedding dimension of the encoder.
        decoder_embed_dim: The embedding dimension of the decoder.
        decoder_depth: The number of transformer layers.
        decoder_num_heads: The number of attention heads of each layer.
        mlp_ratio: The ratio of the hidden dimension of the MLP to the embedding dimension.
        init_cfg: See `BaseModule`; by default linear layers use Xavier uniform initialization.

    Raises:
        ArgumentError: `num_patches` is not a square number, or `decoder_embed_dim` is not divisible by the number of
            heads.
    """

    def __init__(
        self,
        num_patches: int = 16,
        patch_size: int = 7,
        in_chans: int = 3,
        embed_dim: int = 96,
        decoder_embed_dim: int = 64,
        decoder_depth: int = 1,
        decoder_num_heads: int = 4,
        mlp_ratio: float = 4.0,
        init_cfg: InitCfg = None,
    ) -> None:
        super().__init__(init_cfg or {"type": "Xavier", "layer": "Linear", "distribution": "uniform"})
        side = round(num_patches**0.5)
        if side * side != num_patches:
            raise ArgumentError("patches fill a square", key="num_patches", found=num_patches)
        self.decoder_embed = nn.Linear(embed_dim, decoder_embed_dim)
        self.mask_token = nn.Parameter(torch.empty(1, 1, decoder_embed_dim))
        self.decoder_pos_embed = nn.Parameter(position_codes(decoder_embed_dim, side), requires_grad=False)
        self.decoder_blocks = make_layers(decoder_depth, decoder_embed_dim, decoder_num_heads, mlp_ratio)
        self.decoder_norm = nn.LayerNorm(decoder_embed_dim)
        self.decoder_pred = nn.Linear(decoder_embed_dim, patch_size**2 * in_chans)
        nn.init.normal_(self.mask_token, std=0.02)
        for weights in attention_weights(self.decoder_blocks):
            nn.init.xavier_uniform_(weights)

    def forward(self, masked: Masked) -> Tensor:
        """Returns the pixels of all patches, ``(N, L, C * patch_size ** 2)``."""
        tokens = self.decoder_embed(masked.tokens)
        count, width = masked.mask.shape[1], tokens.shape[2]
        places = masked.seen[..., None].expand(-1, -1, width)
        patches = self.mask_token.expand(len(tokens), count, -1).scatter(1, places, tokens[:, 1:])
        tokens = torch.cat([tokens[:, :1], patches + self.decoder_pos_embed], dim=1)
        for layer in self.decoder_blocks:
            tokens = layer(tokens)
        pixels: Tensor = self.decoder_pred(self.decoder_norm(tokens))[:, 1:]
        return pixels


@MODELS.register_module()
class MAEPretrainHead(nn.Module):
    """The mean squared error over the pixels of masked patches.

    Args:
        norm_pix: Whether to normalise every target patch to mean 0 and standard deviation 1.
        patch_size: The height and width of a patch.

    Source: He et al., "Masked Autoencoders Are Scalable Vision Learners", arXiv:2111.06377.
    """

    _EVEN = 1e-6  # keeps the standard deviation of a uniform patch above zero

    def __init__(self, norm_pix: bool = False, patch_size: int = 7) -> None:
        super().__init__()
        self.norm_pix, self.patch_size = norm_pix, patch_size

    def forward(self, pictures: Tensor, guessed: Tensor, mask: Tensor) -> Tensor:
        """Returns the loss, ``()``.

        Args:
            pictures: ``(N, C, H, W)``.
            guessed: ``(N, L, C * patch_size ** 2)``.
            mask: ``(N, L)``, 1 for masked patches.
        """
        truth = patchify(pictures, self.patch_size)
        if self.norm_pix:
            spread = (truth.var(dim=-1, keepdim=True, correction=0) + self._EVEN).sqrt()
            truth = (truth - truth.mean(dim=-1, keepdim=True)) / spread
        errors = (guessed.float() - truth).square().mean(dim=-1)
        return (errors * mask).sum() / mask.sum()


@MODELS.register_module()
class MAE(BaseSelfSup):
    """A masked autoencoder.

    Args:
        backbone: An encoder with `forward_masked`, such as MAEViT. A module or a config for MODELS, as are neck and
            head.
        neck: Maps the encoder's output to the pixels of all patches, such as MAEPretrainDecoder.
        head: Computes the loss from images, predicted pixels and mask, such as MAEPretrainHead.

    Source: He et al., "Masked Autoencoders Are Scalable Vision Learners", arXiv:2111.06377.

    Example:
        >>> model = MAE(
        ...     backbone=dict(type="MAEViT", in_channels=1),
        ...     neck=dict(type="MAEPretrainDecoder", in_chans=1),
        ...     head=dict(type="MAEPretrainHead"),
        ... )
        >>> model([torch.zeros(2, 1, 28, 28)]).shape
        torch.Size([2, 96])
    """

    def extract_feat(self, inputs: Tensor) -> Tensor:
        """Returns features ``(N, D)`` of unmasked images ``(N, C, H, W)``."""
        features: Tensor = self.backbone(inputs)
        return features

    def loss(self, inputs: Sequence[Tensor], data_samples: Sequence[SelfSupDataSample] | None) -> dict[str, Tensor]:
        """Returns the `loss` of the first view."""
        masked: Masked = self.backbone.forward_masked(inputs[0])
        return {"loss": self.head(inputs[0], self.neck(masked), masked.mask)}

    def reconstruct(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Masks random patches of images ``(N, C, H, W)`` and reconstructs them.

        Returns:
            The reconstructed images, ``(N, C, H, W)``, and the mask of patches, ``(N, L)``, 1 for masked.
        """
        masked: Masked = self.backbone.forward_masked(inputs)
        patches: Tensor = self.neck(masked)
        size = (inputs.shape[2], inputs.shape[3])
        side = self.backbone.patch_size
        return F.fold(patches.transpose(1, 2), size, side, stride=side), masked.mask


def patchify(pictures: Tensor, patch_size: int) -> Tensor:
    """Returns the pixels of each patch, ``(N, L, C * patch_size ** 2)``, for images ``(N, C, H, W)``."""
    return F.unfold(pictures, patch_size, stride=patch_size).transpose(1, 2)
