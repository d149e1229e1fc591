"""Self-supervised models: SimCLR and masked autoencoders."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from footplate.checks import check_count, check_number
from footplate.distributed import gather_rows
from footplate.errors import ArgumentError, DataError
from footplate.models import BaseModule
from footplate.models.base_module import InitCfg
from footplate.registry import MODELS
from footplate_vision.selfsup.data import SelfSupDataSample
from footplate_vision.selfsup.vit import Masked, init_attention, make_layers, position_codes
from footplate_vision.task_base import Part, TaskModel, build_part, features_of

Samples = Sequence[SelfSupDataSample] | None
_EPSILON = 1e-6  # added to the variance of a patch, which may be uniform


class BaseSelfSup(TaskModel):
    """The base class for self-supervised models with a backbone, a neck and a head.

    Inputs are a list of views, each a float tensor of shape ``(N, C, H, W)``. Features are computed from the first
    view.

    Args:
        backbone: The network to pretrain. `backbone`, `neck` and `head` are modules or configs for MODELS.
        neck: The module that follows the backbone in training.
        head: The module that computes the loss.
        settings: `data_preprocessor` and `init_cfg`; see `BaseModel`.
    """

    usual_preprocessor = "SelfSupDataPreprocessor"

    def __init__(self, backbone: Part, neck: Part, head: Part, **settings: Any) -> None:
        super().__init__(**settings)
        self.backbone: Any = build_part("backbone", backbone)
        self.neck = build_part("neck", neck)
        self.head = build_part("head", head)

    @abstractmethod
    def extract_feat(self, inputs: Tensor) -> Tensor:
        """Computes features of shape ``(N, D)`` from images of shape ``(N, C, H, W)``."""

    def outputs(self, inputs: Sequence[Tensor]) -> Tensor:
        """Returns the features of the first view, of shape ``(N, D)``."""
        return self.extract_feat(inputs[0])

    def predict(self, inputs: Sequence[Tensor], data_samples: Samples) -> list[SelfSupDataSample]:
        """Sets the `features` of each sample from the first view and returns the samples.

        Creates samples if none are passed.
        """
        features = self.outputs(inputs).float()
        samples = data_samples or [SelfSupDataSample() for _ in features]
        for sample, row in zip(samples, features, strict=True):
            sample.features = row
        return list(samples)

    def predicted_tensors(self, inputs: Tensor) -> dict[str, Tensor]:
        """Returns `features` of shape ``(N, D)``."""
        return {"features": self.extract_feat(inputs).float()}


@MODELS.register_module()
class NonLinearNeck(BaseModule):
    """An MLP: linear layers with batch normalization and ReLU between them.

    Args:
        in_channels: The number of input channels.
        hid_channels: The number of hidden channels.
        out_channels: The number of output channels.
        num_layers: The number of linear layers, at least two.
        init_cfg: See `BaseModule`.

    Raises:
        ArgumentError: `num_layers` is below two.

    Source: Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", arXiv:2002.05709.
    """

    def __init__(
        self,
        in_channels: int,
        hid_channels: int,
        out_channels: int,
        num_layers: int = 2,
        init_cfg: InitCfg = None,
    ) -> None:
        super().__init__(init_cfg)
        check_count("num_layers", num_layers, least=2)
        self.layers = nn.Sequential()
        for before in (in_channels, *[hid_channels] * (num_layers - 2)):
            hidden = nn.Linear(before, hid_channels, bias=False)
            self.layers.extend([hidden, nn.BatchNorm1d(hid_channels), nn.ReLU(inplace=True)])
        self.layers.append(nn.Linear(hid_channels, out_channels))

    def forward(self, features: Tensor | Sequence[Tensor]) -> Tensor:
        """Maps features, or the last item of a sequence of features, to projections of shape ``(N, out_channels)``.

        The features have shape ``(N, C)`` or ``(N, C, H, W)``.
        """
        last = features if isinstance(features, Tensor) else features[-1]
        last = last.mean(dim=(2, 3)) if last.dim() == 4 else last
        return self.layers(last)  # type: ignore[no-any-return]


@MODELS.register_module()
class ContrastiveHead(nn.Module):
    """Computes the NT-Xent loss, which is low if each view is most similar to the other view of the same image.

    In distributed training, the views of all ranks are compared, so that the loss is the same as in one process with
    the whole batch.

    Args:
        temperature: The divisor of the cosine similarities. A smaller value gives similar images more weight.

    Raises:
        ArgumentError: `temperature` is not positive.

    Source: Chen et al., arXiv:2002.05709, section 2.1, NT-Xent.
    """

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        check_number("temperature", temperature, above=0)
        self.temperature = temperature

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Returns the mean loss over all views, a scalar tensor.

        Args:
            first: Projections of the first views, ``(N, D)``, not necessarily normalized.
            second: Projections of the second views, in the same order.

        Raises:
            DataError: The views differ in shape, or have fewer than two images.
        """
        if first.shape == second.shape and self.training:  # ranks may validate different numbers of batches
            first, second = gather_rows(torch.stack([first, second], dim=1).float()).unbind(dim=1)
        if first.shape != second.shape or len(first) < 2:
            raise DataError(
                "the contrastive loss needs two views of the same shape, with at least two images",
                found=(tuple(first.shape), tuple(second.shape)),
            )
        views = F.normalize(torch.cat([first, second]).float(), dim=1)
        cosines = views @ views.T / self.temperature
        itself = torch.eye(len(views), dtype=torch.bool, device=views.device)
        partners = torch.arange(len(views), device=views.device).roll(len(first))
        return F.cross_entropy(cosines.masked_fill(itself, float("-inf")), partners)


@MODELS.register_module()
class SimCLR(BaseSelfSup):
    """Contrastive learning from two views of each image (SimCLR).

    Args:
        backbone: Maps images to feature maps ``(N, C, H, W)``; if it returns several, the last one is used. `backbone`,
            `neck` and `head` are modules or configs for MODELS.
        neck: A module, such as NonLinearNeck, that maps feature maps to projections ``(N, D)``.
        head: A module, such as ContrastiveHead, that computes the loss from the projections of two views.

    Source: Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", arXiv:2002.05709.

    Example:
        >>> model = SimCLR(
        ...     backbone=dict(type="SmallResNet", in_channels=1),
        ...     neck=dict(type="NonLinearNeck", in_channels=128, hid_channels=128, out_channels=64),
        ...     head=dict(type="ContrastiveHead", temperature=0.2),
        ... )
        >>> model([torch.zeros(2, 1, 28, 28)]).shape
        torch.Size([2, 128])
    """

    def extract_feat(self, inputs: Tensor) -> Tensor:
        """Returns the backbone's spatially averaged features, of shape ``(N, D)``, for a batch of images."""
        features = features_of(self.backbone(inputs))
        last: Tensor = features if isinstance(features, Tensor) else features[-1]
        return last.mean(dim=(2, 3)) if last.dim() == 4 else last

    def loss(self, inputs: Sequence[Tensor], data_samples: Samples) -> dict[str, Tensor]:
        """Returns the `loss` for two views. Raises a DataError for any other number of views."""
        if len(inputs) != 2:
            raise DataError(
                f"SimCLR needs two views of each image, but each has {len(inputs)}",
                notes=["Use MultiView with num_views=2 in the pipeline."],
            )
        # Run both views in one batch, so that batch normalization uses the statistics of both.
        first, second = self.neck(features_of(self.backbone(torch.cat(list(inputs))))).chunk(2)
        return {"loss": self.head(first, second)}


@MODELS.register_module()
class MAEPretrainDecoder(BaseModule):
    """Predicts the pixels of all patches from the tokens of the visible patches.

    Args:
        num_patches: The number of patches per image, which must be a perfect square.
        patch_size: The height and width of a patch.
        in_chans: The number of image channels.
        embed_dim: The embedding dimension of the encoder.
        decoder_embed_dim: The embedding dimension of the decoder.
        decoder_depth: The number of transformer layers.
        decoder_num_heads: The number of attention heads of each layer.
        init_cfg: See `BaseModule`; by default, linear layers use Xavier uniform initialization.

    Raises:
        ArgumentError: `decoder_embed_dim` is not a multiple of 4, `decoder_embed_dim` is not a multiple of
            `decoder_num_heads`, or `decoder_depth` is not positive.
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
        init_cfg: InitCfg = None,
    ) -> None:
        super().__init__(init_cfg or {"type": "Xavier", "layer": "Linear", "distribution": "uniform"})
        check_count("decoder_depth", decoder_depth)
        side = math.isqrt(num_patches)
        self.num_patches = num_patches
        self.decoder_embed = nn.Linear(embed_dim, decoder_embed_dim)
        self.mask_token = nn.Parameter(torch.empty(1, 1, decoder_embed_dim))
        self.decoder_pos_embed = nn.Parameter(position_codes(decoder_embed_dim, side), requires_grad=False)
        self.decoder_blocks = make_layers(decoder_depth, decoder_embed_dim, decoder_num_heads)
        self.decoder_norm = nn.LayerNorm(decoder_embed_dim)
        self.decoder_pred = nn.Linear(decoder_embed_dim, patch_size**2 * in_chans)
        nn.init.normal_(self.mask_token, std=0.02)
        init_attention(self.decoder_blocks)

    def forward(self, masked: Masked) -> Tensor:
        """Returns the predicted pixels of all L patches as a tensor of shape ``(N, L, C * patch_size ** 2)``."""
        tokens = self.decoder_embed(masked.tokens)
        count, width = masked.mask.shape[1], tokens.shape[2]
        if count != self.num_patches:
            raise ArgumentError(
                f"the backbone makes {count} patches, but num_patches is {self.num_patches}",
                key="model.neck.num_patches",
            )
        places = masked.seen[..., None].expand(-1, -1, width)
        patches = self.mask_token.expand(len(tokens), count, -1).scatter(1, places, tokens[:, 1:])
        tokens = torch.cat([tokens[:, :1], patches + self.decoder_pos_embed], dim=1)
        for layer in self.decoder_blocks:
            tokens = layer(tokens)
        return self.decoder_pred(self.decoder_norm(tokens))[:, 1:]  # type: ignore[no-any-return]


@MODELS.register_module()
class MAEPretrainHead(nn.Module):
    """Computes the mean squared error over the pixels of masked patches.

    Args:
        norm_pix: Whether to normalize every target patch to mean 0 and standard deviation 1.
        patch_size: The height and width of a patch.

    Source: He et al., "Masked Autoencoders Are Scalable Vision Learners", arXiv:2111.06377.
    """

    def __init__(self, norm_pix: bool = False, patch_size: int = 7) -> None:
        super().__init__()
        self.norm_pix, self.patch_size = norm_pix, patch_size

    def forward(self, images: Tensor, predicted: Tensor, mask: Tensor) -> Tensor:
        """Returns the loss, a scalar tensor.

        Args:
            images: ``(N, C, H, W)``.
            predicted: ``(N, L, C * patch_size ** 2)``.
            mask: ``(N, L)``, 1 for masked patches.
        """
        truth = patchify(images, self.patch_size)
        if self.norm_pix:
            truth = F.layer_norm(truth, truth.shape[-1:], eps=_EPSILON)
        errors = (predicted.float() - truth).square().mean(dim=-1)
        return (errors * mask).sum() / mask.sum()


@MODELS.register_module()
class MAE(BaseSelfSup):
    """A masked autoencoder, which learns to predict the pixels of masked patches.

    Args:
        backbone: An encoder with a `forward_masked` method, such as MAEViT. `backbone`, `neck` and `head` are modules
            or configs for MODELS.
        neck: A module, such as MAEPretrainDecoder, that maps the encoder's output to the pixels of all patches.
        head: A module, such as MAEPretrainHead, that computes the loss from the images, the predicted pixels and the
            mask.

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
        """Computes features of shape ``(N, D)`` from images of shape ``(N, C, H, W)``, without masking."""
        return self.backbone(inputs)  # type: ignore[no-any-return]

    def loss(self, inputs: Sequence[Tensor], data_samples: Samples) -> dict[str, Tensor]:
        """Returns the `loss` for the first view."""
        masked: Masked = self.backbone.forward_masked(inputs[0])
        return {"loss": self.head(inputs[0], self.neck(masked), masked.mask)}

    def reconstruct(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Masks random patches of images of shape ``(N, C, H, W)`` and reconstructs them.

        If the head has `norm_pix` set, each patch gets the mean and standard deviation of the original patch.

        Returns:
            The reconstructed images, ``(N, C, H, W)``, and the mask, ``(N, L)``, 1 for masked patches.
        """
        masked: Masked = self.backbone.forward_masked(inputs)
        side = self.backbone.patch_size
        patches = self.neck(masked)
        if getattr(self.head, "norm_pix", False):  # the predicted pixels are relative to their patch
            truth = patchify(inputs, side)
            patches = patches * (truth.var(-1, correction=0, keepdim=True) + _EPSILON).sqrt() + truth.mean(-1, True)
        return F.fold(patches.transpose(1, 2), inputs.shape[2:], side, stride=side), masked.mask


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """Splits images of shape ``(N, C, H, W)`` into patches of pixels, of shape ``(N, L, C * patch_size ** 2)``."""
    return F.unfold(images, patch_size, stride=patch_size).transpose(1, 2)
