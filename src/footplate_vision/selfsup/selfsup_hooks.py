"""Defines hooks that draw neighbors and reconstructions, and report gains since the start of training."""

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from footplate.checks import check_choice, check_count
from footplate.data import preserve_random_state, seed_generators
from footplate.distributed import is_main_process, unwrap_model
from footplate.engine import Hook, Run
from footplate.errors import ArgumentError
from footplate.registry import HOOKS
from footplate.visualization import ImageArray, Visualizer, skipping_failed_image
from footplate.visualization.drawing import RGB
from footplate_vision.panels import BLUE, ORANGE, PAPER
from footplate_vision.selfsup.data import SelfSupDataSample
from footplate_vision.visualization import planes_to_image

_GAP = 4
_MIN_SIZE = 84
_logger = logging.getLogger("footplate.vision")


class _Sample(NamedTuple):
    """One validation image with its features and label."""

    image: ImageArray
    features: Tensor
    label: int
    is_test: bool


@HOOKS.register_module()
class NeighborPictureHook(Hook):
    """Draws test images with their nearest training images in feature space after every validation run.

    Neighbors of the same class have a blue frame, other neighbors an orange one. Without labels, all frames are blue.

    Args:
        num_queries: The number of test images, spread evenly over the validation dataset.
        num_neighbors: The number of neighbors of each test image.
        max_samples: The maximum number of validation images to use.

    Raises:
        ArgumentError: A number is not positive.
    """

    def __init__(self, num_queries: int = 8, num_neighbors: int = 6, max_samples: int = 5000) -> None:
        self.num_queries = check_count("num_queries", num_queries)
        self.num_neighbors = check_count("num_neighbors", num_neighbors)
        self.max_samples = check_count("max_samples", max_samples)
        self._seen: list[_Sample] = []

    def before_val_epoch(self, runner: Run) -> None:
        """Clears the stored images."""
        self._seen = []

    def after_val_iter(
        self, runner: Run, batch_idx: int, data_batch: Any = None, outputs: Sequence[SelfSupDataSample] | None = None
    ) -> None:
        """Stores the images and features of the batch."""
        for position, output in enumerate(outputs or ()):
            if is_main_process() and len(self._seen) < self.max_samples and "part" in output:
                image = planes_to_image(data_batch["inputs"][0][position])
                label = int(output.gt_label) if "gt_label" in output else -1
                self._seen.append(_Sample(image, output.features.detach().cpu(), label, output.part == "test"))

    def after_val_epoch(self, runner: Run, metrics: dict[str, Any] | None = None) -> None:
        """Draws the test images with their neighbors, if there are both test and training images."""
        test, train = ([sample for sample in self._seen if sample.is_test == is_test] for is_test in (True, False))
        self._seen = []
        if not test or not train:
            return
        queries = test[:: max(1, len(test) // self.num_queries)][: self.num_queries]
        features = F.normalize(torch.stack([sample.features for sample in train]), dim=1)
        rows = []
        for query in queries:
            nearest = (features @ query.features).topk(min(self.num_neighbors, len(train))).indices.tolist()
            neighbors = (train[at] for at in nearest)
            framed = [(each.image, BLUE if each.label == query.label else ORANGE) for each in neighbors]
            rows.append([(query.image, PAPER), *framed])
        add_rows("val_neighbors", rows, runner.iter)


@HOOKS.register_module()
class ReconstructionPictureHook(Hook):
    """Draws images from the first validation batch, their visible patches, and an autoencoder's reconstructions.

    Args:
        num_samples: The number of images to draw.
        seed: The seed of the masks. All validation runs use the same masks.

    Raises:
        ArgumentError: `num_samples` is not positive.
    """

    def __init__(self, num_samples: int = 6, seed: int = 0) -> None:
        self.num_samples, self.seed = check_count("num_samples", num_samples), seed

    def after_val_iter(
        self, runner: Run, batch_idx: int, data_batch: Any = None, outputs: Sequence[Any] | None = None
    ) -> None:
        """Draws the images after the first batch of a validation run."""
        if batch_idx or not is_main_process():
            return
        model: Any = unwrap_model(runner.model)
        every = max(1, len(data_batch["inputs"][0]) // self.num_samples)
        chosen = list(data_batch["inputs"][0])[::every][: self.num_samples]
        inputs = model.data_preprocessor({"inputs": [chosen]})["inputs"][0]
        with preserve_random_state():
            seed_generators(self.seed)
            reconstructed, mask = model.reconstruct(inputs)
        side = round(mask.shape[1] ** 0.5)
        hidden = F.interpolate(mask.view(-1, 1, side, side), list(inputs.shape[-2:]), mode="nearest")[:, 0].bool()
        if hasattr(model.data_preprocessor, "mean"):
            reconstructed = reconstructed * model.data_preprocessor.std + model.data_preprocessor.mean
        rows = []
        for planes, mask_of_image, guess in zip(chosen, hidden.cpu().numpy()[..., None], reconstructed, strict=True):
            image, filled = planes_to_image(planes), planes_to_image(guess)
            columns = (image, np.where(mask_of_image, 128, image), np.where(mask_of_image, filled, image))
            rows.append([(column, PAPER) for column in columns])
        add_rows("val_reconstructions", rows, runner.iter)


def add_rows(name: str, rows: Sequence[Sequence[tuple[ImageArray, RGB]]], step: int) -> None:
    """Passes an image that shows rows of framed images to the run's visualizer.

    Args:
        name: The name of the image.
        rows: The rows, as lists of images ``(h, w, 3)`` with their frame colors. All images must have the same size. If
            they are small, they are enlarged by an integer factor.
        step: The current iteration.
    """
    with skipping_failed_image(name):
        lines = []
        for row in rows:
            framed = []
            for image, color in row:
                zoom = max(1, _MIN_SIZE // max(image.shape[:2]))
                inner = Image.fromarray(image.repeat(zoom, axis=0).repeat(zoom, axis=1))
                framed.append(np.asarray(ImageOps.expand(ImageOps.expand(inner, _GAP, color), _GAP, PAPER)))
            lines.append(np.hstack(framed))
        Visualizer.get_current_instance().add_image(name, np.vstack(lines), step)


@HOOKS.register_module()
class ValidateFirstHook(Hook):
    """Validates before the first iteration, and adds the gains since then to all later validation metrics.

    The gain in `knn/top1`, for example, is reported as `gain/knn/top1`, in the same unit.

    Args:
        keys: The metrics to compare; by default, all metrics that are numbers.

    Raises:
        ArgumentError: The run has no validation, or a metric in `keys` is unknown.
    """

    priority = "HIGHEST"  # before any hook that records metrics

    def __init__(self, keys: Sequence[str] | None = None) -> None:
        self.keys = keys
        self._start: dict[str, float] = {}

    def before_train(self, runner: Run) -> None:
        """Requests a validation run before training, unless the run is resumed: its initial metrics are restored."""
        if runner.val_loop is None:
            raise ArgumentError("ValidateFirstHook needs a val_dataloader", key="val_dataloader")
        if runner.iter == 0:
            runner.train_loop.validation_requested = True

    def after_val_epoch(self, runner: Run, metrics: dict[str, Any] | None = None) -> None:
        """Stores the metrics of the first validation run, and adds the gains since then to all later metrics."""
        if not metrics or runner.iter and not self._start:
            return
        numbers = {name: float(value) for name, value in metrics.items() if isinstance(value, (int, float))}
        if not runner.iter:
            for key in self.keys or ():
                check_choice("keys", key, numbers)
            self._start = {key: numbers[key] for key in self.keys or numbers}
            return
        gains = {name: numbers[name] - start for name, start in self._start.items() if name in numbers}
        changes = (f"{name} {self._start[name]:.2f} -> {numbers[name]:.2f} ({gains[name]:+.2f})" for name in gains)
        _logger.info("Gain since the start: %s", ", ".join(changes))
        metrics.update({f"gain/{name}": gain for name, gain in gains.items()})

    def state_dict(self) -> dict[str, Any]:
        """Returns the metrics of the first validation run."""
        return {"start": dict(self._start)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the metrics of the first validation run."""
        self._start = dict(state["start"])
