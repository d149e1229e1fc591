"""Self-supervised learning: SimCLR, masked autoencoders, and probes to evaluate features."""

from footplate.tasks.selfsup.contrastive import ContrastiveHead, NonLinearNeck, nt_xent
from footplate.tasks.selfsup.hook import NeighborPictureHook, ReconstructionPictureHook
from footplate.tasks.selfsup.mae import MAE, MAEPretrainDecoder, MAEPretrainHead, patchify
from footplate.tasks.selfsup.metric import KNNProbe, LinearProbe
from footplate.tasks.selfsup.preprocessor import SelfSupDataPreprocessor
from footplate.tasks.selfsup.probes import fit_linear, knn_predict, linear_predict
from footplate.tasks.selfsup.sample import SelfSupDataSample
from footplate.tasks.selfsup.simclr import SimCLR
from footplate.tasks.selfsup.transforms import MultiView, PackSelfSupInputs
from footplate.tasks.selfsup.validate_first import ValidateFirstHook
from footplate.tasks.selfsup.vit import MAEViT

__all__ = [
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
    "knn_predict",
    "linear_predict",
    "nt_xent",
    "patchify",
]
