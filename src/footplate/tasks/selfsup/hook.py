"""Hooks that visualize self-supervised models during validation."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from footplate.checks import check_count
from footplate.data import preserve_random_state, seed_generators
from footplate.distributed import is_main_process, unwrap_model
from footplate.engine import Hook
from footplate.registry import HOOKS
from footplate.tasks.selfsup.pictures import Picture, as_picture, draw_neighbors, draw_reconstructions
from footplate.tasks.selfsup.sample import SelfSupDataSample
from footplate.visualization import Visualizer

if TYPE_CHECKING:
    from footplate.engine import Runner


class _Shown(NamedTuple):
    """One validation image with its features and label."""

    picture: Picture
    features: Tensor
    label: int
    is_test: bool


@HOOKS.register_module()
class NeighborPictureHook(Hook):
    """Draws test images with their nearest train images in feature space. Blue frames mark the same class.

    Args:
        num_queries: The number of test images, spread evenly over the validation set.
        num_neighbors: The number of neighbours of each test image.
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
        """Stores images and features."""
        for position, output in enumerate(outputs or ()):
            if is_main_process() and len(self._seen) < self.max_samples and "part" in output:
                picture = as_picture(data_batch["inputs"][0][position])
                label = int(output.gt_label) if "gt_label" in output else -1
                self._seen.append(_Shown(picture, output.features.detach().cpu(), label, output.part == "test"))

    def after_val_epoch(self, runner: "Runner", metrics: dict[str, Any] | None = None) -> None:
        """Draws the neighbours if there are both test and train images."""
        test, train = ([each for each in self._seen if each.is_test == wanted] for wanted in (True, False))
        self._seen = []
        if not test or not train:
            return
        queries = [test[number * len(test) // self.num_queries] for number in range(min(self.num_queries, len(test)))]
        features = F.normalize(torch.stack([each.features for each in train]), dim=1)
        count = min(self.num_neighbors, len(train))
        found = [[train[at] for at in (features @ query.features).topk(count).indices.tolist()] for query in queries]
        page = draw_neighbors(
            [query.picture for query in queries],
            [[each.picture for each in row] for row in found],
            [[each.label == query.label for each in row] for query, row in zip(queries, found, strict=True)],
        )
        Visualizer.get_current_instance().add_image("val_neighbors", page, runner.iter)


@HOOKS.register_module()
class ReconstructionPictureHook(Hook):
    """Draws images of the first validation batch, their visible patches, and the reconstructions of an autoencoder.

    Args:
        num_samples: The number of images.
        seed: The seed of the masks, which makes the images of one run comparable.

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
            guessed, mask = model.reconstruct(inputs)
        page = draw_reconstructions(
            [as_picture(each) for each in chosen],
            [each.cpu().numpy() for each in _hidden_pixels(mask, inputs)],
            [as_picture(each) for each in _as_pixels(model.data_preprocessor, guessed)],
        )
        Visualizer.get_current_instance().add_image("val_reconstructions", page, runner.iter)


def _hidden_pixels(mask: Tensor, inputs: Tensor) -> Tensor:
    """Converts a mask of patches ``(N, L)`` to a mask of pixels ``(N, H, W)``, bool."""
    side = round(mask.shape[1] ** 0.5)
    return F.interpolate(mask.view(-1, 1, side, side), list(inputs.shape[-2:]), mode="nearest")[:, 0].bool()


def _as_pixels(preprocessor: Any, pictures: Tensor) -> Tensor:
    """Undoes the normalisation."""
    mean, std = getattr(preprocessor, "mean", None), getattr(preprocessor, "std", None)
    return pictures if mean is None or std is None else pictures * std + mean
