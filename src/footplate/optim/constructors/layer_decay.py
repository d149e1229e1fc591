"""Learning rates that fall from the head to the stem of a backbone."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from footplate.errors import ArgumentError
from footplate.optim.constructors.default import DefaultOptimWrapperConstructor
from footplate.optim.constructors.param_groups import Group
from footplate.optim.constructors.paramwise_checks import check_paramwise, warn_of_unknown_keys
from footplate.registry import OPTIM_WRAPPER_CONSTRUCTORS

Depth = Callable[[list[str], int], int]
"""From the parts of a parameter's name and the number of layers to how deep it lies: 0 for the stem."""

_EMBEDDINGS = ("cls_token", "mask_token", "pos_embed")
_BETWEEN_STAGES = (0, 2, 3)


def convnext_layer(path: list[str], layers: int) -> int:
    """Returns the layer of a ConvNeXt parameter: stages of three blocks count as one layer."""
    if path[0] != "backbone":
        return layers + 1
    if path[1] in _EMBEDDINGS:
        return 0
    if path[1] == "downsample_layers":
        stage = int(path[2])
        return _BETWEEN_STAGES[stage] if stage < 3 else layers
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
    """Returns the layer of a vision transformer's parameter."""
    if path[0] == "backbone" and path[1] in (*_EMBEDDINGS, "patch_embed"):
        return 0
    return int(path[2]) + 1 if path[:2] == ["backbone", "layers"] else layers + 1


_FAMILIES: dict[str, dict[str, Depth]] = {
    "ConvNeXt": {"layer_wise": convnext_layer, "stage_wise": convnext_stage},
    "BEiT": {"layer_wise": vit_layer},
    "MAE": {"layer_wise": vit_layer},
    "VisionTransformer": {"layer_wise": vit_layer},
    "ViT": {"layer_wise": vit_layer},
}


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LearningRateDecayOptimizerConstructor(DefaultOptimWrapperConstructor):
    """Multiplies the learning rate by `decay_rate` for each layer, or stage, between a parameter and the head.

    One-dimensional parameters and biases get no weight decay. `paramwise_cfg` holds `decay_rate`, `num_layers` and
    `decay_type`, "layer_wise" or "stage_wise". The model's `backbone` must be of a known family: ConvNeXt (both types),
    BEiT, MAE, or another vision transformer with its blocks in `layers` (layer-wise).

    Source: BEiT: BERT Pre-Training of Image Transformers (Bao et al., 2022); A ConvNet for the 2020s (Liu et al.,
    2022).

    Raises:
        ArgumentError: A setting is missing or wrong, or the backbone is of no known family.
    """

    def add_params(
        self, params: list[Group], module: nn.Module, prefix: str = "", is_dcn_module: bool | None = None
    ) -> None:
        """Appends one group for each parameter of `module` that is trained."""
        layers, rate = self.paramwise_cfg["num_layers"], self.paramwise_cfg["decay_rate"]
        depth = self._depth(module)
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                continue
            decays = parameter.ndim > 1 and not name.endswith(".bias") and name not in ("pos_embed", "cls_token")
            steps = layers + 1 - depth(name.split("."), layers)
            scale = rate**steps
            settings = {"lr": None if self.base_lr is None else self.base_lr * scale}
            settings["weight_decay"] = self.base_wd if decays else 0.0
            given = {key: value for key, value in settings.items() if value is not None}
            self.reasons[name] = (f"decay_rate ** {steps}", *(() if decays else ("no decay of vectors",)))
            params.append({"params": [parameter], **given})

    def _depth(self, model: nn.Module) -> Depth:
        kind = self.paramwise_cfg.get("decay_type", "layer_wise")
        backbone = type(getattr(model, "backbone", None)).__name__
        family = next((found for name, found in _FAMILIES.items() if name in backbone), None)
        if family is None or kind not in family:
            known = ", ".join(name for name, kinds in _FAMILIES.items() if kind in kinds)
            raise ArgumentError(
                f"no {kind} decay is known for this backbone: only for {known}",
                key="paramwise_cfg.decay_type",
                found=backbone,
            )
        return family[kind]

    def _validate_cfg(self) -> None:
        cfg = self.paramwise_cfg
        check_paramwise(cfg)
        warn_of_unknown_keys(cfg, known=("num_layers", "decay_rate", "decay_type"))
        for key, kind in (("num_layers", int), ("decay_rate", (int, float))):
            value = cfg.get(key)
            if not isinstance(value, kind) or isinstance(value, bool) or not 0 < value < math.inf:
                raise ArgumentError(f'"{key}" must be a number above 0', key=f"paramwise_cfg.{key}", found=value)
        if cfg.get("decay_type", "layer_wise") not in ("layer_wise", "stage_wise"):
            raise ArgumentError(
                'decay_type is "layer_wise" or "stage_wise"', key="paramwise_cfg.decay_type", found=cfg["decay_type"]
            )

    def _warn(self, model: nn.Module) -> None:
        """Says nothing: this constructor reads none of the usual multipliers."""


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimizerConstructor(LearningRateDecayOptimizerConstructor):
    """The older name, with `layer_decay_rate` in place of `decay_rate`, and layer-wise."""

    def __init__(self, optim_wrapper_cfg: Mapping[str, Any], paramwise_cfg: Mapping[str, Any] | None = None) -> None:
        settings = dict(paramwise_cfg or {})
        if "layer_decay_rate" in settings:
            settings["decay_rate"] = settings.pop("layer_decay_rate")
        super().__init__(optim_wrapper_cfg, {**settings, "decay_type": "layer_wise"})
