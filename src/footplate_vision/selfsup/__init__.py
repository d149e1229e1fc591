"""Self-supervised learning: SimCLR, masked autoencoders, and probes to evaluate features."""

from footplate_vision.selfsup.data import MultiView, PackSelfSupInputs, SelfSupDataPreprocessor, SelfSupDataSample
from footplate_vision.selfsup.metric import KNNProbe, LinearProbe, fit_linear
from footplate_vision.selfsup.selfsup_hooks import NeighborPictureHook, ReconstructionPictureHook, ValidateFirstHook
from footplate_vision.selfsup.selfsup_models import (
    MAE,
    BaseSelfSup,
    ContrastiveHead,
    MAEPretrainDecoder,
    MAEPretrainHead,
    NonLinearNeck,
    SimCLR,
    patchify,
)
from footplate_vision.selfsup.vit import MAEViT

__all__ = [
    "BaseSelfSup",
    "ContrastiveHead",
    "KNNProbe",
    "LinearProbe",
    "MAE",
    "MAEPretrainDecoder",
    "MAEPretrainHead",
    "MAEViT",
    "MultiView",
    "NeighborPictureHook",
    "NonLinearNeck",
    "PackSelfSupInputs",
    "ReconstructionPictureHook",
    "SelfSupDataPreprocessor",
    "SelfSupDataSample",
    "SimCLR",
    "ValidateFirstHook",
    "fit_linear",
    "patchify",
]
