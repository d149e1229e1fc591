"""footplate's own transforms."""

import footplate_vision
from footplate.data import Compose

PACKAGES = ["opencv-python-headless", "pillow"]
footplate_vision  # noqa: B018 - registers the transforms
LOAD, FLIP = {"type": "LoadImageFromFile"}, {"type": "RandomFlip", "prob": 0.5}
RESIZE = {"type": "Resize", "scale": (1333, 800), "keep_ratio": True}
VIEW = [{"type": "RandomResizedCrop", "scale": 224}, FLIP, {"type": "RandomBlur", "prob": 0.5, "radius": (0.1, 2.0)}]
STEPS = {
    "segmentation": [
        LOAD,
        {
            "type": "LoadAnnotations",
            "with_seg": True,
            "with_bbox": False,
            "with_label": False,
            "reduce_zero_label": True,
        },
        {"type": "RandomResize", "scale": (2048, 512), "ratio_range": (0.5, 2.0), "keep_ratio": True},
        {"type": "RandomCrop", "crop_size": (512, 512), "cat_max_ratio": 0.75},
        FLIP,
        {"type": "PhotoMetricDistortion"},
        {"type": "PackSegInputs"},
    ],
    "boxes": [LOAD, {"type": "LoadAnnotations", "with_seg": False}, RESIZE, FLIP, {"type": "PackDetInputs"}],
    "masks": [
        LOAD,
        {"type": "LoadAnnotations", "with_seg": False, "with_mask": True},
        RESIZE,
        FLIP,
        {"type": "PackDetInputs"},
    ],
    "classification": [LOAD, {"type": "RandomResizedCrop", "scale": 224}, FLIP, {"type": "PackInputs"}],
    "two views": [LOAD, {"type": "MultiView", "transforms": [VIEW]}, {"type": "PackSelfSupInputs"}],
    "prediction": [LOAD, RESIZE, {"type": "PackDetInputs"}],
}
PIPELINES = {name.replace(" ", "-"): Compose(steps) for name, steps in STEPS.items()}
