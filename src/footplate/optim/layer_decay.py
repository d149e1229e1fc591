"""Constructors with layer-wise learning rate decay."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from footplate.checks import check_choice, check_count, check_number
from footplate.error_context import at_key
from footplate.errors import ArgumentError
from footplate.optim.constructors import DefaultOptimWrapperConstructor, Group
from footplate.optim.paramwise import check_paramwise, warn_of_unknown_keys
from footplate.registry import OPTIM_WRAPPER_CONSTRUCTORS

LayerIndex = Callable[[list[str], int], int]
"""A function (components of a parameter name, number of layers) -> layer of the parameter, 0 for the stem."""

_EMBEDDINGS = ("cls_token", "mask_token", "pos_embed")
_DOWNSAMPLE_LAYERS = (0, 2, 3)


def convnext_layer(path: list[str], layers: int) -> int:
    """Returns the layer of a ConvNeXt parameter. Every three consecutive blocks of the third stage form one layer."""
    if path[0] != "backbone":
        return layers + 1
    if path[1] in _EMBEDDINGS:
        return 0
    if path[1] == "downsample_layers":
        stage = int(path[2])
        return _DOWNSAMPLE_LAYERS[stage] if stage < 3 else layers
    if path[1] == "stages":
        stage, block = int(path[2]), int(path[3])
        return {0: 1, 1: 2, 2: 3 + block // 3}.get(stage, layers)
    return layers + 1


def convnext_stage(path: list[str], layers: int) -> int:
    """Returns the stage of a ConvNeXt parameter."""
    if path[0] == "backbone" and path[1] in (*_EMBEDDINGS, "downsample_layers"):
        return 0
    return int(path[2]) + 1 if path[:2] == ["backbone", "stages"] else layers + 1


def vit_layer(path: list[str], layers: int) -> int:
    """Returns the layer of a vision transformer parameter."""
    if path[0] == "backbone" and path[1] in (*_EMBEDDINGS, "patch_embed"):
        return 0
    return int(path[2]) + 1 if path[:2] == ["backbone", "layers"] else layers + 1


_LAYERS: dict[str, dict[str, LayerIndex]] = {
    "ConvNeXt": {"layer_wise": convnext_layer, "stage_wise": convnext_stage},
    "BEiT": {"layer_wise": vit_layer},
    "MAE": {"layer_wise": vit_layer},
    "VisionTransformer": {"layer_wise": vit_layer},
    "ViT": {"layer_wise": vit_layer},
}


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LearningRateDecayOptimizerConstructor(DefaultOptimWrapperConstructor):
    """Multiplies the learning rate by `decay_rate` for each layer or stage between a parameter and the head.

    One-dimensional parameters and biases have no weight decay. `paramwise_cfg` has the keys `decay_rate`,
    `num_layers` and `decay_type` (either "layer_wise" or "stage_wise"). The `backbone` of the model must be a ConvNeXt
    (both types), or a BEiT, MAE or other vision transformer with its blocks in `layers` (only "layer_wise").

    Source: BEiT: BERT Pre-Training of Image Transformers (Bao et al., 2022); A ConvNet for the 2020s (Liu et al.,
    2022).

    Raises:
        ArgumentError: A setting is missing or out of range, or the backbone is not supported.
    """

    def add_params(
        self, params: list[Group], module: nn.Module, prefix: str = "", is_dcn_module: bool | None = None
    ) -> None:
        """Appends one group for each trainable parameter of `module`."""
        layers, rate = self.paramwise_cfg["num_layers"], self.paramwise_cfg["decay_rate"]
        kind = self.paramwise_cfg.get("decay_type", "layer_wise")
        backbone = type(getattr(module, "backbone", None)).__name__
        layer_of = next((kinds.get(kind) for name, kinds in _LAYERS.items() if name in backbone), None)
        if layer_of is None:
            supported = ", ".join(name for name, kinds in _LAYERS.items() if kind in kinds)
            raise ArgumentError(
                f"{kind} decay does not support this backbone",
                key="paramwise_cfg.decay_type",
                found=backbone,
                notes=[f"supported backbones: {supported}"],
            )
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                continue
            decays = parameter.ndim > 1 and not name.endswith(".bias") and name not in ("pos_embed", "cls_token")
            steps = layers + 1 - layer_of(name.split("."), layers)
            scale = rate**steps
            settings = {"lr": None if self.base_lr is None else self.base_lr * scale}
            settings["weight_decay"] = self.base_wd if decays else 0.0
            known = {key: value for key, value in settings.items() if value is not None}
            self.reasons[name] = (f"decay_rate ** {steps}", *(() if decays else ("no weight decay",)))
            params.append({"params": [parameter], **known})

    def _validate_cfg(self) -> None:
        cfg = self.paramwise_cfg
        check_paramwise(cfg)
        warn_of_unknown_keys(cfg, known=("num_layers", "decay_rate", "decay_type"))
        with at_key("paramwise_cfg"):
            check_count("num_layers", cfg.get("num_layers"))
            check_number("decay_rate", cfg.get("decay_rate"), above=0)
            check_choice("decay_type", cfg.get("decay_type", "layer_wise"), ("layer_wise", "stage_wise"))

    def _warn(self, model: nn.Module) -> None:
        """Does nothing, since the warnings are about rules that this constructor does not use."""


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimizerConstructor(LearningRateDecayOptimizerConstructor):
    """The older form of `LearningRateDecayOptimizerConstructor`.

    It is always layer-wise and accepts `layer_decay_rate`.
    """

    def __init__(self, optim_wrapper_cfg: Mapping[str, Any], paramwise_cfg: Mapping[str, Any] | None = None) -> None:
        settings = dict(paramwise_cfg or {})
        if "layer_decay_rate" in settings:
            settings["decay_rate"] = settings.pop("layer_decay_rate")
        super().__init__(optim_wrapper_cfg, {**settings, "decay_type": "layer_wise"})
