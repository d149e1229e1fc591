"""Decays the learning rate from the head of a model to its input, layer by layer or stage by stage."""

from collections.abc import Callable
from typing import Any

from torch import nn

from footplate.checks import check_choice, check_count, check_number
from footplate.error_context import at_key
from footplate.errors import ArgumentError
from footplate.optim import DefaultOptimWrapperConstructor
from footplate.optim.constructors import Group
from footplate.optim.paramwise import check_paramwise, warn_of_unknown_keys
from footplate.registry import OPTIM_WRAPPER_CONSTRUCTORS

LayerIndex = Callable[[list[str], int], int]
"""A function that takes the components of a parameter's name in the backbone and `num_layers`, and returns its layer.

The layer is 0 for embeddings and `num_layers + 1` for other parameters outside the blocks.
"""


def convnext_layer(path: list[str], layers: int) -> int:
    """Returns the layer index of a ConvNeXt parameter; see `LayerIndex`.

    In the third stage, three blocks in a row count as one layer.
    """
    match path:
        case ["cls_token" | "mask_token" | "pos_embed", *_]:
            return 0
        case ["downsample_layers", stage, *_]:
            return {"0": 0, "1": 2, "2": 3}.get(stage, layers)
        case ["stages", stage, block, *_]:
            return {"0": 1, "1": 2, "2": 3 + int(block) // 3}.get(stage, layers)
    return layers + 1


def convnext_stage(path: list[str], layers: int) -> int:
    """Returns the stage index of a ConvNeXt parameter; see `LayerIndex`."""
    match path:
        case ["cls_token" | "mask_token" | "pos_embed" | "downsample_layers", *_]:
            return 0
        case ["stages", stage, *_]:
            return int(stage) + 1
    return layers + 1


def vit_layer(path: list[str], layers: int) -> int:
    """Returns the layer index of a vision transformer parameter; see `LayerIndex`.

    Example:
        >>> vit_layer(["layers", "0", "attn"], 12), vit_layer(["encoder", "layer", "1"], 12)
        (1, 2)
        >>> vit_layer(["embeddings", "cls_token"], 12)
        0
    """
    match path:
        case ["cls_token" | "mask_token" | "pos_embed" | "patch_embed" | "embeddings", *_]:
            return 0
        case ["layers", layer, *_] | ["encoder" | "model", "layer", layer, *_]:
            return int(layer) + 1
    return layers + 1


_LAYERS: dict[str, dict[str, LayerIndex]] = {
    "ConvNeXt": {"layer_wise": convnext_layer, "stage_wise": convnext_stage},
    **dict.fromkeys(("BEiT", "Beit", "DeiT", "Dinov2", "MAE", "VisionTransformer", "ViT"), {"layer_wise": vit_layer}),
}


@OPTIM_WRAPPER_CONSTRUCTORS.register_module(
    name=["LearningRateDecayOptimizerConstructor", "LayerDecayOptimizerConstructor"]
)
class LearningRateDecayOptimizerConstructor(DefaultOptimWrapperConstructor):
    """Decays the learning rate layer by layer or stage by stage, from the head to the input.

    A parameter's learning rate is `lr * decay_rate ** distance`, where `distance` is the number of layers or stages
    from the head. One-dimensional parameters and biases get no weight decay.

    The keys of `paramwise_cfg` are `decay_rate` (or `layer_decay_rate`), `num_layers`, and optionally `decay_type`
    ("layer_wise", the default, or "stage_wise"). The model's `backbone` must be a ConvNeXt (both decay types), or a
    BEiT, MAE or other vision transformer whose blocks are in `layers` (only "layer_wise"). In models of the package
    transformers, the backbone is the base model, such as the `vit` of a ViTForImageClassification.

    Source: BEiT: BERT Pre-Training of Image Transformers (Bao et al., 2022); A ConvNet for the 2020s (Liu et al.,
    2022).

    Raises:
        ArgumentError: A setting is missing or out of range, or the backbone is not supported.
    """

    def add_params(
        self, params: list[Group], module: nn.Module, prefix: str = "", is_dcn_module: bool | None = None
    ) -> None:
        """Appends one group for each trainable parameter of `module`. Ignores `prefix` and `is_dcn_module`.

        Raises:
            ArgumentError: The backbone is not supported.
        """
        layers = self.paramwise_cfg["num_layers"]
        decay_type = self.paramwise_cfg.get("decay_type", "layer_wise")
        base = getattr(module, "base_model_prefix", "") or "backbone"  # of a model of transformers
        backbone = type(getattr(module, base, None)).__name__
        layer_of = next((kinds.get(decay_type) for name, kinds in _LAYERS.items() if name in backbone), None)
        if layer_of is None:
            supported = ", ".join(name for name, kinds in _LAYERS.items() if decay_type in kinds)
            raise ArgumentError(
                f"{decay_type} decay does not support a model with a backbone of type '{backbone}'",
                key="paramwise_cfg.decay_type",
                notes=[
                    f"supported backbones: {supported}",
                    "For other models, set `lr_mult` for each part with `custom_keys`, without a `constructor`.",
                ],
            )
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                continue
            decays = parameter.ndim > 1 and not name.endswith(".bias") and name not in ("pos_embed", "cls_token")
            first, *path = name.split(".")
            steps = layers + 1 - layer_of(path, layers) if first == base else 0
            group: Group = {"params": [parameter]}
            if self.base_lr is not None:
                group["lr"] = self.base_lr * self._rate**steps
            if not decays:
                group["weight_decay"] = 0.0
            self.reasons[name] = (f"decay_rate ** {steps}", *(() if decays else ("no weight decay",)))
            params.append(group)

    @property
    def _rate(self) -> Any:
        return self.paramwise_cfg.get("layer_decay_rate", self.paramwise_cfg.get("decay_rate"))

    def _validate_cfg(self) -> None:
        cfg = self.paramwise_cfg
        check_paramwise(cfg)
        warn_of_unknown_keys(cfg, known=("num_layers", "decay_rate", "layer_decay_rate", "decay_type"))
        with at_key("paramwise_cfg"):
            check_count("num_layers", cfg.get("num_layers"))
            check_number("decay_rate", self._rate, above=0)
            check_choice("decay_type", cfg.get("decay_type", "layer_wise"), ("layer_wise", "stage_wise"))
