"""Base classes for task visualizers, and for hooks that draw predictions during validation and testing."""

import colorsys
import copy
import logging
import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain, count
from types import SimpleNamespace
from typing import Any, ClassVar, NamedTuple

import numpy as np

from footplate.checks import check_count
from footplate.data import length_of, metainfo_of
from footplate.data.data_element import BaseDataElement
from footplate.data.transforms import LoadImageFromFile
from footplate.distributed import gather_objects, get_rank, get_world_size, is_main_process
from footplate.engine import Hook, Run
from footplate.errors import DataError
from footplate.evaluation.evaluation_sets import classes_in, sets_of
from footplate.evaluation.metric import to_device
from footplate.registry import HOOKS
from footplate.storage import exists, read_bytes
from footplate.visualization import (
    Color,
    ImageArray,
    Visualizer,
    as_array,
    as_rgb,
    skipping_failed_image,
)
from footplate.visualization.drawing import RGB
from footplate_vision.panels import arrange_panels
from footplate_vision.training_data import FILE as TRAINING_DATA
from footplate_vision.training_data import TrainingData

_logger = logging.getLogger("footplate.vision")
_BACKGROUND = (128, 128, 128)
_NUM_WORST = 8  # images of each validation run and dataset


def distinct_colors(count: int) -> list[RGB]:
    """Returns a fixed list of `count` colors. Adjacent colors are clearly distinguishable.

    Red is excluded because it marks errors.
    """
    colors = []
    for position in range(count):
        lightness = (0.5, 0.65, 0.38)[position % 3]
        channels = colorsys.hls_to_rgb(0.07 + 0.83 * ((0.6 + position * 0.618034) % 1), lightness, 0.75)
        red, green, blue = (round(255 * channel) for channel in channels)
        colors.append((red, green, blue))
    return colors


def colors_of_classes(names: Sequence[str]) -> list[RGB]:
    """Returns distinct colors for classes without a palette, and gray for a background."""
    colors = zip(names, distinct_colors(len(names)), strict=True)
    return [_BACKGROUND if name.strip("_").lower() in ("background", "bg") else color for name, color in colors]


def unique_name(name: str, taken: Collection[str]) -> str:
    """Returns `name`. If it is already taken, appends the first free number, as in `cat_2`."""
    candidates = chain([name], (f"{name}_{number}" for number in count(2)))
    return next(candidate for candidate in candidates if candidate not in taken)


class ImageNames(dict[str, str]):
    """Maps image paths to unique names. A path gets its name on first access.

    Names are file names without the suffix. If a name is already taken, the folder name is added and, if needed, a
    number.

    Args:
        paths: Paths to name in this order, before any other path.
    """

    def __init__(self, paths: Iterable[str] = ()) -> None:
        super().__init__()
        self._taken: set[str] = set()
        for path in paths:
            _ = self[path]

    def __missing__(self, path: str) -> str:
        folder, name = os.path.split(os.path.splitext(path)[0])
        name = f"{os.path.basename(folder)}_{name}" if name in self._taken else name
        self[path] = name = unique_name(name, self._taken)
        self._taken.add(name)
        return name


def sample_image(path: str | None, data_batch: Any, position: int) -> ImageArray | None:
    """Returns a sample's image as an RGB array of shape ``(H, W, 3)``, or None if it has no image.

    Args:
        path: The image file. If it is None or does not exist, the image is taken from the batch.
        data_batch: The batch: a dict with `inputs`, or a sequence whose first item is the inputs. Each input has the
            shape ``(C, H, W)`` and values from 0 to 255.
        position: The index of the sample in the batch.
    """
    if path is not None and exists(path):
        # Also turns the image as its EXIF data say, and converts 16-bit images.
        loaded: ImageArray = LoadImageFromFile(channel_order="rgb")({"img_path": path})["img"]
        return loaded
    inputs = data_batch.get("inputs") if isinstance(data_batch, Mapping) else data_batch[0] if data_batch else None
    if inputs is None:
        return None
    planes = as_array(inputs[position])
    return planes_to_image(planes) if planes.ndim == 3 and planes.shape[0] in (1, 3) else None


def origin_of_image(data_sample: Any) -> dict[str, str]:
    """Returns the `title` of a sample's image, which hooks set as metainfo, and the `path` of its file."""
    metainfo = getattr(data_sample, "metainfo", {})
    return {"title": str(metainfo.get("title", "")), "path": str(metainfo.get("img_path", ""))}


class TaskVisualizer(Visualizer):
    """The base class for visualizers that draw an image, its ground truth and its prediction with a legend.

    Subclasses set `fields` and override `overlay`.

    Attributes:
        fields: A pair (data field, metainfo field) for the ground truth, and one for the prediction. The metainfo field
            contains the height and width of the image that the data's coordinates refer to.
        least_size: The minimum length of the longer side in pixels; smaller images are enlarged.
    """

    fields: ClassVar[tuple[tuple[str, str], tuple[str, str]]]
    least_size = 1
    _classes: Sequence[str] | None = None
    _palette: Sequence[Color] | None = None

    def class_name(self, label: int) -> str:
        """Returns the name of a class, or a placeholder such as "class 7" if the name is unknown."""
        classes = self._classes or self.dataset_meta.get("classes") or ()
        return str(classes[label]) if 0 <= label < len(classes) else f"class {label}"

    def class_color(self, label: int) -> RGB:
        """Returns a class color from the palette of the visualizer or dataset. A short palette is repeated.

        Without a palette, classes have distinct colors, and the background class is gray.
        """
        palette = self._palette or self.dataset_meta.get("palette")
        if palette:
            return as_rgb(palette[label % len(palette)])
        return colors_of_classes([self.class_name(number) for number in range(label + 1)])[label]

    def overlay(self, data: Any, shape: Sequence[int]) -> set[int]:
        """Draws the ground truth or the prediction on the current image, and returns the drawn labels.

        Args:
            data: The value of the data field.
            shape: The image height and width to which the coordinates in `data` refer.
        """
        raise NotImplementedError

    def difference(self, truth: Any, prediction: Any) -> ImageArray | None:
        """Draws the errors of the prediction on the current image and returns the image.

        Returns None by default; `render` then omits the error panel.

        Args:
            truth: The ground truth.
            prediction: The prediction.
        """
        return None

    def render(self, image: Any, data_sample: Any, *, draw_gt: bool = True, draw_pred: bool = True) -> ImageArray:
        """Draws the image, the ground truth, the prediction and an error panel side by side, and returns the result.

        Omits panels without data.

        Args:
            image: A uint8 image: RGB ``(H, W, 3)`` or grayscale ``(H, W)``.
            data_sample: The sample of the image, with ground truth, prediction, or both.
            draw_gt: Whether to draw the ground truth.
            draw_pred: Whether to draw the prediction.
        """
        self.set_image(image)
        plain = self.get_image()
        size = plain.shape[:2]
        zoom = max(1, -(-self.least_size // max(size)))  # enlarged by an integer factor, without smoothing
        plain = plain.repeat(zoom, axis=0).repeat(zoom, axis=1)
        panels, labels = {"image": plain}, set()
        wanted = zip(("truth", "prediction"), self.fields, (draw_gt, draw_pred), strict=True)
        for caption, (field, shape), is_wanted in wanted:
            if is_wanted and data_sample is not None and field in data_sample:
                self.set_image(plain)
                labels |= self.overlay(data_sample.get(field), data_sample.get(shape, size))
                panels[caption] = self.get_image()
        if {"truth", "prediction"} <= panels.keys():
            self.set_image(plain)
            errors = self.difference(*(data_sample.get(field) for field, _ in self.fields))
            if errors is not None:
                panels["errors"] = errors
        legend = {self.class_name(label): self.class_color(label) for label in sorted(labels)}
        return arrange_panels(panels, legend, **origin_of_image(data_sample))


class WrongSample(NamedTuple):
    """A sample with a wrong prediction.

    Attributes:
        order: Sorts samples by decreasing error, and equal errors by their position in the dataset.
        title: The name of the image and what is wrong.
        sample: The sample with its truth and prediction.
        path: The image file, or None.
        image: The image from the batch, if there is no such file.
    """

    order: tuple[float, int, int]
    title: str
    sample: Any
    path: str | None
    image: ImageArray | None


class BaseVisualizationHook(Hook):
    """Draws images, ground truth and predictions for every `interval`-th batch of a validation or test run.

    Subclasses that set `fields` and override `error` also draw the 8 samples of the dataset with the largest errors, as
    `worst_val_1`, `worst_val_2` etc. In training, they count the labels and the image sizes of the first 1,000 samples
    of rank 0, and write them to `vis_data/training_data.json` for the report.

    Args:
        draw: Whether to enable drawing.
        interval: Draws only every `interval`-th batch.
        show: Whether to also show the images on screen.
        wait_time: The minimum time to show an image, in seconds.
        backend_args: Ignored; accepted for compatibility.
        file_client_args: Ignored; accepted for compatibility.
        max_samples: Draws only the first `max_samples` images of each batch; None draws all.

    Raises:
        ArgumentError: `interval` or `max_samples` is not positive.
    """

    modes: ClassVar[tuple[str, ...]] = ("val", "test")
    """The runs in which the hook draws."""
    fields: ClassVar[tuple[str, ...]] = ()
    """The fields of a sample that `error` compares and the visualizer draws: the truth and the prediction."""
    _set_visualizer: Visualizer | None = None

    def __init__(
        self,
        draw: bool = False,
        interval: int = 50,
        show: bool = False,
        wait_time: float = 0.0,
        *,
        backend_args: dict[str, Any] | None = None,
        file_client_args: dict[str, Any] | None = None,
        max_samples: int | None = None,
    ) -> None:
        self.draw = draw
        self.interval = check_count("interval", interval)
        self.show = show
        self.wait_time = wait_time
        self.shown: dict[str, Any] = {"show": show, "wait_time": wait_time}
        self.max_samples = max_samples if max_samples is None else check_count("max_samples", max_samples)
        self._names: dict[str, ImageNames] = {}  # by mode and dataset, as are the following
        self._worst: dict[str, list[WrongSample]] = {}  # on this rank, the largest error first
        self._counts = Counter[str]()  # evaluated samples on this rank
        self._training_data = TrainingData(self.fields[0]) if self.fields else None
        self._is_written = False  # whether this process has written the training data

    def before_train(self, runner: Run) -> None:
        """Warns if a validation dataset has too few batches for any image to be drawn."""
        if "val" in self.modes:
            self._check_sizes(runner.val_loop)

    def before_train_iter(self, runner: Run, batch_idx: int, data_batch: Any = None) -> None:
        """Counts the labels and image sizes of the first samples."""
        if self._is_written or self._training_data is None or not self.draw or not is_main_process():
            return
        samples = data_batch.get("data_samples") if isinstance(data_batch, Mapping) else None
        if not self._training_data.is_complete and isinstance(samples, Sequence):
            with skipping_failed_image(TRAINING_DATA):
                self._training_data.add([sample for sample in samples if isinstance(sample, BaseDataElement)])
        if self._training_data.is_complete:
            self._write_training_data(runner)

    def after_train(self, runner: Run) -> None:
        """Writes the training data of a short run."""
        if not self._is_written and self._training_data is not None and self._training_data.samples:
            self._write_training_data(runner)

    def _write_training_data(self, runner: Run) -> None:
        if self._training_data is not None:
            with skipping_failed_image(TRAINING_DATA):
                classes = classes_in(metainfo_of(runner.train_loop.dataloader))
                self._training_data.write(runner.folder.log_dir, classes)
        self._is_written = True

    def state_dict(self) -> dict[str, Any]:
        """Returns the counts of the training data."""
        return {} if self._training_data is None else self._training_data.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the counts of the training data."""
        if self._training_data is not None:
            self._training_data.load_state_dict(state)

    def before_test(self, runner: Run) -> None:
        """Warns if a test dataset has too few batches for any image to be drawn."""
        self._check_sizes(runner.built.get("test_loop"))

    @property
    def _visualizer(self) -> Visualizer:
        return self._set_visualizer or Visualizer.get_current_instance()

    @_visualizer.setter
    def _visualizer(self, visualizer: Visualizer) -> None:  # third-party subclasses assign it
        self._set_visualizer = visualizer

    @property
    def file_client(self) -> Any:
        """The file client that third-party subclasses expect: `file_client.get(path)` returns the bytes of a file."""
        return SimpleNamespace(get=read_bytes)

    def choose(self, outputs: Sequence[Any]) -> Iterable[tuple[int, Any]]:
        """Yields (index, prediction) pairs to draw from a batch. Subclasses may filter them."""
        return enumerate(outputs)

    def options(self) -> dict[str, Any]:
        """Returns additional arguments for the visualizer's `add_datasample`."""
        return {}

    def error(self, sample: Any) -> tuple[float, str]:
        """Returns how wrong a prediction is, and the same in words. A number of 0 or less means that it is right.

        Called for samples that have all `fields`.
        """
        return 0.0, ""

    def _before_epoch(self, runner: Run, mode: str = "train") -> None:
        if mode != "train":
            self._worst.clear()
            self._counts.clear()

    def _after_epoch(self, runner: Run, mode: str = "train") -> None:
        if self._finds_worst(mode):
            for evaluation_set in sets_of(getattr(runner, f"{mode}_loop", None)):
                name = "_".join(filter(None, (mode, evaluation_set.name)))
                self._draw_worst(runner, name, evaluation_set.dataset)

    def _finds_worst(self, mode: str) -> bool:
        return self.draw and bool(self.fields) and mode in self.modes

    def _keep_worst(self, name: str, data_batch: Any, outputs: Sequence[Any]) -> None:
        """Adds the samples of a batch with the largest errors to `_worst`, which keeps at most `_NUM_WORST` samples."""
        kept = self._worst.setdefault(name, [])
        for position, output in enumerate(outputs):
            order = self._counts[name], get_rank()
            self._counts[name] += 1
            if not isinstance(output, BaseDataElement) or not all(field in output for field in self.fields):
                continue
            with skipping_failed_image(f"worst_{name}"):
                error, text = self.error(output)
                if error <= 0 or (len(kept) == _NUM_WORST and (-error, *order) > kept[-1].order):
                    continue
                path, image = output.get("img_path"), None
                if path is None or not exists(path):
                    path, image = None, sample_image(None, data_batch, position)
                    if image is None:
                        continue
                sample = output.new(**{field: output.get(field) for field in self.fields})
                sample = copy.deepcopy(to_device(sample, "cpu"))  # a view would keep the whole batch in memory
                title = f"{os.path.basename(output.get('img_path') or f'sample {order[0]}')}: {text}"
                kept.append(WrongSample((-error, *order), title, sample, path, image))
                kept.sort(key=lambda each: each.order)
                del kept[_NUM_WORST:]

    def _draw_worst(self, runner: Run, name: str, dataset: Any) -> None:
        """Draws the worst samples of all ranks on rank 0."""
        own, ranks = self._worst.get(name, []), get_world_size()
        size = length_of(dataset) if ranks > 1 else None
        orders = sorted(chain.from_iterable(gather_objects([each.order for each in own])))
        # A sampler may have repeated samples past the end of the dataset.
        orders = [order for order in orders if size is None or order[1] * ranks + order[2] < size][:_NUM_WORST]
        parts = gather_objects([each for each in own if each.order in orders])
        found = sorted(chain.from_iterable(parts), key=lambda each: each.order)
        for number, worst in enumerate(found if is_main_process() else (), start=1):
            title = f"worst_{name}_{number}"
            with skipping_failed_image(title):
                image = worst.image if worst.path is None else sample_image(worst.path, None, 0)
                worst.sample.set_metainfo({"title": worst.title})
                self._visualizer.add_datasample(
                    title, image, data_sample=worst.sample, step=runner.iter, **self.options()
                )

    def _after_iter(
        self,
        runner: Run,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[Any] | None = None,
        mode: str = "val",
    ) -> None:
        if not self.draw or mode not in self.modes:
            return
        loop = getattr(runner, f"{mode}_loop", None)
        current = getattr(loop, "current", "")  # the name of one of several datasets
        prefix = f"{mode}_{current}" if current else mode
        is_padding = getattr(getattr(loop, "dataloader", None), "is_padding", False)
        if self._finds_worst(mode) and not is_padding:
            self._keep_worst(prefix, data_batch, outputs or ())
        if not self.every_n_inner_iters(batch_idx, self.interval):
            return
        for position, output in list(self.choose(outputs or ()))[: self.max_samples]:
            path = output.get("img_path") if hasattr(output, "get") else None
            name = self._names.setdefault(prefix, ImageNames())[str(path or f"{batch_idx}_{position}")]
            with skipping_failed_image(name):
                image = sample_image(path, data_batch, position)
                if image is None:
                    raise DataError(
                        "the batch contains no image of shape (C, H, W) with 1 or 3 channels", found=type(data_batch)
                    )
                self._visualizer.add_datasample(
                    f"{prefix}_{name}", image, data_sample=output, step=runner.iter, **self.shown, **self.options()
                )

    def _check_sizes(self, loop: Any) -> None:
        for evaluation_set in sets_of(loop) if self.draw else ():
            batches = length_of(evaluation_set.dataloader)
            if batches and batches < self.interval:
                _logger.warning(
                    "%s does not draw any images%s: the number of batches, %d, is less than interval=%d.",
                    type(self).__name__,
                    f" from the dataset '{evaluation_set.name}'" if evaluation_set.name else "",
                    batches,
                    self.interval,
                )


@HOOKS.register_module()
class NaiveVisualizationHook(BaseVisualizationHook):
    """Draws every `interval`-th batch of a test run with the visualizer's `add_datasample`.

    Reads the image from the sample's `img_path`, or uses the input from the dataloader if there is no such file.

    Args:
        interval: Only every `interval`-th batch is drawn.
        draw_gt: Whether to draw the ground truth.
        draw_pred: Whether to draw the prediction.

    Raises:
        ArgumentError: `interval` is not a positive integer.
    """

    priority = "LOWEST"
    modes = ("test",)

    def __init__(self, interval: int = 1, draw_gt: bool = True, draw_pred: bool = True) -> None:
        super().__init__(True, interval)
        self.draw_gt, self.draw_pred = draw_gt, draw_pred
        self.shown = {}  # visualizers that fit this hook may lack these arguments

    def options(self) -> dict[str, Any]:
        """Returns the arguments that select the ground truth and the prediction."""
        return {"draw_gt": self.draw_gt, "draw_pred": self.draw_pred}


def planes_to_image(planes: Any) -> ImageArray:
    """Converts values from 0 to 255, an array of shape ``(1 or 3, h, w)``, to a uint8 RGB image, ``(h, w, 3)``."""
    pixels = np.rint(as_array(planes)).clip(0, 255).astype(np.uint8).transpose(1, 2, 0)
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
