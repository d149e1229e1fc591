"""Draws a training batch as the model gets it: augmented, with its boxes, masks or labels."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from footplate.data import dataset_of, metainfo_of
from footplate.data.dataset_wrappers import innermost_datasets
from footplate.distributed import unwrap_model
from footplate.engine import Run
from footplate.visualization import ImageArray, Visualizer, as_array, skipping_failed_image
from footplate_vision.classification import ClsVisualizer
from footplate_vision.detection import DetLocalVisualizer
from footplate_vision.inference.exported_model import ExportedModel
from footplate_vision.panels import PAPER, arrange_panels
from footplate_vision.segmentation import SegLocalVisualizer
from footplate_vision.structures import InstanceData
from footplate_vision.task_base import pad_to
from footplate_vision.visualization import TaskVisualizer, planes_to_image

_MAX_IMAGES, _COLUMNS = 8, 4
_MIN_SIDE = 320  # pixels; smaller images are enlarged


def draw_training_batch(runner: Run, data_batch: Any) -> ImageArray | None:
    """Draws the first images of a collated batch after the data preprocessor, without its normalization.

    Returns None if the model does not get images of one size with semantic, instance or class labels. If the batch
    cannot be drawn, logs a warning.
    """
    try:
        with skipping_failed_image("training batch"):
            return _draw(runner, data_batch)
        return None
    finally:
        Visualizer.keep_instance(runner.visualizer)


def _draw(runner: Run, data_batch: Any) -> ImageArray | None:
    model: Any = unwrap_model(runner.model)
    preprocess = getattr(model, "data_preprocessor", None)
    if preprocess is None:  # such as a model of the first generation
        return None
    data = preprocess(copy.deepcopy(data_batch), True)  # it may change the samples
    inputs, samples = (data.get(key) for key in ("inputs", "data_samples")) if isinstance(data, Mapping) else [None] * 2
    if not isinstance(inputs, Tensor) or inputs.dim() != 4 or inputs.shape[1] not in (1, 3) or not samples:
        return None
    images = ExportedModel(model).restore(inputs[:_MAX_IMAGES].float())
    low, high = images.aminmax()
    if high < 8 or images.median() > 255:  # from a pipeline that normalizes images, or from 16-bit images
        images = 255 * (images - low) / (high - low).clamp(min=1e-3)
    metainfo = metainfo_of(runner.train_loop.dataloader)
    visualizers = {"gt_sem_seg": SegLocalVisualizer(alpha=0.5), "gt_instances": DetLocalVisualizer(), "gt_label": None}
    field = next((name for name in visualizers if name in samples[0]), "")
    visualizer: TaskVisualizer = visualizers.get(field) or ClsVisualizer()
    visualizer.dataset_meta = metainfo if isinstance(metainfo, Mapping) else {}
    tiles, labels = list[ImageArray](), set[int]()
    for planes, sample in zip(images.flip(1) if _loads_bgr(runner) else images, samples, strict=False):
        tile = _enlarge(planes_to_image(planes), visualizer.least_size)
        if field == "gt_label" or "gt_score" in sample:
            tiles.append(arrange_panels({_caption(sample, visualizer): tile}))
        elif field:
            visualizer.set_image(tile)
            labels |= visualizer.overlay(_plain(sample.get(field), planes.shape[1:]), planes.shape[1:])
            tiles.append(_enlarge(visualizer.get_image(), _MIN_SIDE))
    if not tiles:
        return None
    columns = min(_COLUMNS, len(tiles))
    tiles += [np.full_like(tiles[0], PAPER)] * (-len(tiles) % columns)
    rows = [np.hstack(tiles[begin : begin + columns]) for begin in range(0, len(tiles), columns)]
    legend = {visualizer.class_name(label): visualizer.class_color(label) for label in sorted(labels)}
    return arrange_panels({"training batch, as the model gets it": np.vstack(rows)}, legend)


def _enlarge(image: ImageArray, side: int) -> ImageArray:
    zoom = max(1, -(-side // max(image.shape)))
    return image.repeat(zoom, axis=0).repeat(zoom, axis=1)


def _loads_bgr(runner: Run) -> bool:
    leaves = innermost_datasets(dataset_of(runner.train_loop.dataloader))
    steps = [step for leaf in leaves for step in getattr(getattr(leaf, "pipeline", None), "transforms", ())]
    return any(
        type(step).__name__.startswith("LoadImage") and getattr(step, "channel_order", "bgr") == "bgr" for step in steps
    )


def _caption(sample: Any, visualizer: TaskVisualizer) -> str:
    """Returns the names of the classes of an image, with their shares if it is mixed."""
    if "gt_score" not in sample:
        return " + ".join(map(visualizer.class_name, as_array(sample.gt_label).reshape(-1).tolist()))
    scores = as_array(sample.gt_score)
    names = [
        (f"{100 * scores[label]:.0f}% ", visualizer.class_name(label)) for label in np.flatnonzero(scores).tolist()
    ]
    return " + ".join("".join(name) if len(names) > 1 else name[1] for name in names)


def _plain(truth: Any, size: Sequence[int]) -> Any:
    """Returns instances with masks as a tensor of the size of the image, and other labels unchanged."""
    if "masks" not in truth:
        return truth
    masks = truth.masks.to_ndarray() if hasattr(truth.masks, "to_ndarray") else as_array(truth.masks)  # MMDetection
    padded = pad_to(torch.from_numpy(masks), size, 0)
    return InstanceData(bboxes=truth.bboxes, labels=truth.labels, masks=padded)
