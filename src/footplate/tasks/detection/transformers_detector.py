"""Detection models of the transformers package, built from a config without downloads."""

import importlib
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from footplate.data.structures import InstanceData
from footplate.errors import ArgumentError, MissingExtraError
from footplate.messages import nearest
from footplate.registry import MODELS
from footplate.tasks.detection.base import BaseDetector
from footplate.tasks.detection.boxes import from_centers, to_centers
from footplate.tasks.transformers_config import check_offline


@MODELS.register_module()
class TransformersDetector(BaseDetector):
    """A detector of the DETR family: RT-DETR, Deformable DETR, Conditional DETR, DAB-DETR, DETR.

    Weights are initialized randomly; use `load_from` or `init_cfg=dict(type="Pretrained", ...)` to load a checkpoint.

    Args:
        num_classes: The number of classes.
        config: `model_type`, such as "rt_detr", and any arguments of the config of that model.
        test_cfg: The postprocessing of predictions: arguments of `Selection`. Non-maximum suppression is disabled by
            default, as these models do not need it.
        data_preprocessor: See `BaseModel`; usually a DetDataPreprocessor.
        init_cfg: See `BaseModel`.

    Raises:
        ArgumentError: The detection model is unknown to transformers, or its config is rejected.
        MissingExtraError: The package transformers or scipy is not installed.

    Source: Carion et al., "End-to-End Object Detection with Transformers", arXiv:2005.12872; Zhao et al., "DETRs Beat
        YOLOs on Real-time Object Detection", arXiv:2304.08069.
    """

    _selection = {"nms_iou_thr": None}

    def __init__(
        self,
        num_classes: int,
        *,
        config: Mapping[str, Any],
        test_cfg: Mapping[str, Any] | None = None,
        data_preprocessor: nn.Module | Mapping[str, Any] | None = None,
        init_cfg: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__(num_classes, test_cfg=test_cfg, data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.detector = _build(num_classes, config)

    def outputs(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Returns scores ``(N, Q, C)``, 0 to 1, and boxes ``(N, Q, 4)``, x1 y1 x2 y2 in pixels of the inputs."""
        found = self.detector(pixel_values=inputs)
        logits = found.logits.float()
        # Models with a background class have one more score, and use softmax instead of sigmoid.
        shared = logits.shape[-1] == self.num_classes + 1
        scores = logits.softmax(dim=-1)[..., :-1] if shared else logits.sigmoid()
        return scores, from_centers(found.pred_boxes.float()) * _size_of(inputs)

    def losses(self, inputs: Tensor, instances: Sequence[InstanceData]) -> dict[str, Tensor]:
        """Returns `loss`, and its components detached from the graph."""
        size = _size_of(inputs)
        truth = [{"class_labels": each.labels, "boxes": to_centers(each.bboxes) / size} for each in instances]
        found = self.detector(pixel_values=inputs, labels=truth)
        parts = {name.removeprefix("loss_"): value.detach() for name, value in found.loss_dict.items()}
        return {"loss": found.loss, **{name: value for name, value in parts.items() if "aux" not in name}}

    def candidates(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the scores and boxes of all queries."""
        return self.outputs(inputs)


def _build(num_classes: int, config: Mapping[str, Any]) -> nn.Module:
    transformers = _imported("transformers")
    _imported("scipy")  # needed to match predictions and ground truth; would fail only at the first loss otherwise
    settings = {key: _plain(value) for key, value in config.items()}
    name = settings.pop("model_type", None)
    check_offline(settings)
    known = transformers.models.auto.modeling_auto.MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES
    if name not in known:
        near = nearest(str(name), known)
        raise ArgumentError(
            "transformers has no such detection model", key="config.model_type", found=name, suggestion=near
        )
    # The backbone is also built from its config, not downloaded.
    offline = {"use_timm_backbone": False, "use_pretrained_backbone": False, "backbone": None}
    try:
        made = transformers.AutoConfig.for_model(name, **{**offline, **settings, "num_labels": num_classes})
        model: nn.Module = transformers.AutoModelForObjectDetection.from_config(made)
    except (TypeError, ValueError, KeyError, IndexError) as error:
        why = str(error).strip().split("\n", 1)[0]
        raise ArgumentError(f"transformers refuses the config of '{name}': {why}", key="config") from error
    return model


def _imported(package: str) -> ModuleType:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingExtraError(package, extra="transformers", why="TransformersDetector") from error


def _plain(value: Any) -> Any:
    """Converts mappings and sequences of a config to plain dicts and lists, which transformers can serialize."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value


def _size_of(inputs: Tensor) -> Tensor:
    """Returns width, height, width, height, ``(4,)``."""
    height, width = inputs.shape[-2:]
    return torch.tensor([width, height, width, height], dtype=torch.float32, device=inputs.device)
