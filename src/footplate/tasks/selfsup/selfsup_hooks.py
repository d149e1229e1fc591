"""Hooks that draw neighbors and reconstructions, and report the gain since the start of training."""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from footplate.checks import check_count, check_saved_number
from footplate.data import preserve_random_state, seed_generators
from footplate.distributed import is_main_process, unwrap_model
from footplate.engine import Hook
from footplate.errors import ArgumentError
from footplate.messages import nearest
from footplate.registry import HOOKS
from footplate.tasks.selfsup.data import SelfSupDataSample
from footplate.visualization import Visualizer, as_array, skipping_failed_image

if TYPE_CHECKING:
    from footplate.engine import Runner

Image = npt.NDArray[np.uint8]
_GAP = 4
_SHOWN_SIZE = 84
_PAPER = 255
_SAME, _OTHER = (0, 114, 178), (213, 94, 0)  # from the color-blind safe palette of Okabe and Ito
_logger = logging.getLogger("footplate.tasks")


class _Shown(NamedTuple):
    """One validation image with its features and label."""

    image: Image
    features: Tensor
    label: int
    is_test: bool


@HOOKS.register_module()
class NeighborPictureHook(Hook):
    """Draws test images with their nearest training images in feature space.

    Neighbors of the same class have a blue frame.

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
        self._seen: list[_Shown] = []

    def before_val_epoch(self, runner: "Runner") -> None:
        """Clears the stored images."""
        self._seen = []

    def after_val_iter(
        self,
        runner: "Runner",
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[SelfSupDataSample] | None = None,
    ) -> None:
        """Stores the images and features of the batch."""
        for position, output in enumerate(outputs or ()):
            if is_main_process() and len(self._seen) < self.max_samples and "part" in output:
                image = planes_to_image(data_batch["inputs"][0][position])
                label = int(output.gt_label) if "gt_label" in output else -1
                self._seen.append(_Shown(image, output.features.detach().cpu(), label, output.part == "test"))

    def after_val_epoch(self, runner: "Runner", metrics: dict[str, Any] | None = None) -> None:
        """Draws the neighbors if there are both test and training images."""
        test, train = ([each for each in self._seen if each.is_test == wanted] for wanted in (True, False))
        self._seen = []
        if not test or not train:
            return
        queries = [test[number * len(test) // self.num_queries] for number in range(min(self.num_queries, len(test)))]
        features = F.normalize(torch.stack([each.features for each in train]), dim=1)
        count = min(self.num_neighbors, len(train))
        found = [[train[at] for at in (features @ query.features).topk(count).indices.tolist()] for query in queries]
        with skipping_failed_image("val_neighbors"):
            page = draw_neighbors(
                [query.image for query in queries],
                [[each.image for each in row] for row in found],
                [[each.label == query.label for each in row] for query, row in zip(queries, found, strict=True)],
            )
            Visualizer.get_current_instance().add_image("val_neighbors", page, runner.iter)


@HOOKS.register_module()
class ReconstructionPictureHook(Hook):
    """Draws images of the first validation batch, their visible patches, and the reconstructions of an autoencoder.

    Args:
        num_samples: The number of images.
        seed: The seed of the masks. With a fixed seed, the images of different validations have the same masks.

    Raises:
        ArgumentError: `num_samples` is not positive.
    """

    def __init__(self, num_samples: int = 6, seed: int = 0) -> None:
        self.num_samples, self.seed = check_count("num_samples", num_samples), seed

    def after_val_iter(
        self, runner: "Runner", batch_idx: int, data_batch: Any = None, outputs: Sequence[Any] | None = None
    ) -> None:
        """Draws after the first batch of a validation run."""
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
        mean, std = (getattr(model.data_preprocessor, name, None) for name in ("mean", "std"))
        if mean is not None and std is not None:
            reconstructed = reconstructed * std + mean
        with skipping_failed_image("val_reconstructions"):
            page = draw_reconstructions(
                [planes_to_image(each) for each in chosen],
                [each.cpu().numpy() for each in hidden],
                [planes_to_image(each) for each in reconstructed],
            )
            Visualizer.get_current_instance().add_image("val_reconstructions", page, runner.iter)


def draw_neighbors(
    queries: Sequence[Image], neighbors: Sequence[Sequence[Image]], same: Sequence[Sequence[bool]]
) -> Image:
    """Returns an image in which each row shows a query, followed by its nearest neighbors.

    Args:
        queries: RGB images ``(h, w, 3)`` of the same size, uint8.
        neighbors: The neighbors of each query, the nearest first.
        same: Whether each neighbor has the class of the query. Its frame is blue if it does, and orange otherwise.
    """
    rows = [
        [_framed(query, None), *(_framed(each, right) for each, right in zip(found, flags, strict=True))]
        for query, found, flags in zip(queries, neighbors, same, strict=True)
    ]
    return _page(rows)


def draw_reconstructions(images: Sequence[Image], hidden: Sequence[Image], guessed: Sequence[Image]) -> Image:
    """Returns an image in which each row shows an image, its visible patches, and its reconstruction.

    Masked pixels are gray in the second column. The third column shows the reconstruction for masked pixels only.

    Args:
        images: RGB images ``(h, w, 3)`` of the same size, uint8.
        hidden: For each image, a bool array ``(h, w)`` that is True for masked pixels.
        guessed: The reconstructions, with the same shape and dtype as `images`.
    """
    rows = []
    for image, gone, guess in zip(images, hidden, guessed, strict=True):
        covered, filled = image.copy(), image.copy()
        covered[gone] = 128
        filled[gone] = guess[gone]
        rows.append([_framed(each, None) for each in (image, covered, filled)])
    return _page(rows)


def planes_to_image(planes: object) -> Image:
    """Converts channels ``(1 or 3, h, w)`` with values from 0 to 255 to an RGB image ``(h, w, 3)``, uint8."""
    pixels = np.rint(as_array(planes)).clip(0, 255).astype(np.uint8).transpose(1, 2, 0)
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def _framed(image: Image, same: bool | None) -> Image:
    """Enlarges an image by an integer factor, and adds a frame whose color shows whether the class is the same."""
    zoom = max(1, _SHOWN_SIZE // max(image.shape[:2]))
    height, width = zoom * image.shape[0] + 2 * _GAP, zoom * image.shape[1] + 2 * _GAP
    framed = np.empty((height, width, 3), np.uint8)
    framed[:] = _PAPER if same is None else _SAME if same else _OTHER
    framed[_GAP:-_GAP, _GAP:-_GAP] = image.repeat(zoom, axis=0).repeat(zoom, axis=1)
    return framed


def _page(rows: Sequence[Sequence[Image]]) -> Image:
    margin = ((_GAP, _GAP), (_GAP, _GAP), (0, 0))
    lines = [np.concatenate([np.pad(each, margin, constant_values=_PAPER) for each in row], axis=1) for row in rows]
    return np.concatenate(lines, axis=0)


@HOOKS.register_module()
class ValidateFirstHook(Hook):
    """Validates before the first iteration, and adds the gains since then to the metrics of later validations.

    The gain of the metric `knn/top1` is reported as `gain/knn/top1`, in the same unit.

    Args:
        keys: The metrics to compare; by default, all metrics that are numbers.

    Raises:
        ArgumentError: When a run starts, there is no validation, or a metric in `keys` is unknown.
    """

    priority = "HIGHEST"  # before any hook that records metrics

    def __init__(self, keys: Sequence[str] | None = None) -> None:
        self.keys = None if keys is None else tuple(keys)
        self._start: dict[str, float] = {}

    def before_train(self, runner: "Runner") -> None:
        """Requests a validation before training; a resumed run already has the initial metrics."""
        if runner.val_loop is None:
            raise ArgumentError("ValidateFirstHook needs a val_dataloader", key="val_dataloader")
        if runner.iter == 0:
            runner.train_loop.validation_requested = True

    def after_val_epoch(self, runner: "Runner", metrics: dict[str, Any] | None = None) -> None:
        """Stores the metrics of the first validation, and adds the gains since then to the metrics of later ones."""
        if not metrics or runner.iter and not self._start:
            return
        numbers = {name: float(value) for name, value in metrics.items() if isinstance(value, (int, float))}
        if not runner.iter:
            for key in self.keys or ():
                if key not in numbers:
                    known = ", ".join(numbers) or "none"
                    near = nearest(key, numbers)
                    raise ArgumentError(f"there is no metric '{key}'", suggestion=near, notes=[f"metrics: {known}"])
            self._start = numbers if self.keys is None else {key: numbers[key] for key in self.keys}
            return
        gains = {name: numbers[name] - start for name, start in self._start.items() if name in numbers}
        changes = (f"{name} {self._start[name]:.2f} -> {numbers[name]:.2f} ({gains[name]:+.2f})" for name in gains)
        _logger.info("Gain since the start: %s", ", ".join(changes))
        metrics.update({f"gain/{name}": gain for name, gain in gains.items()})

    def state_dict(self) -> dict[str, Any]:
        """Returns the metrics of the first validation."""
        return {"start": dict(self._start)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the metrics of the first validation."""
        self._start = {key: check_saved_number(value, key, finite=False) for key, value in state["start"].items()}
