"""Predicts on images with a trained model, and draws the predictions."""

import inspect
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, groupby, islice
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from footplate.checks import check_count, check_number
from footplate.config import Config
from footplate.data import LoadImageFromFile
from footplate.engine.loops.evaluation_loops import predicting
from footplate.error_context import at_key, located
from footplate.errors import ArgumentError
from footplate.registry import VISUALIZERS, using_scope
from footplate.tools.run_facts import code_to_load
from footplate.visualization import Visualizer
from footplate_vision.detection.data import above_score
from footplate_vision.inference.tiling import Tile, merge, open_windows, tiles_of
from footplate_vision.inference.trained_model import (
    NO_PIPELINE,
    AdaptedModel,
    Pixels,
    Preprocessing,
    TrainedModel,
    first_view,
    name_of,
    open_trained,
    select_device,
)
from footplate_vision.visualization import colors_of_classes

_Item = TypeVar("_Item")
_Image = str | os.PathLike[str] | Pixels | Image.Image
# Maps a prediction's field to a visualizer. Used if the config has only the general visualizer.
_VISUALIZERS = {
    "pred_sem_seg": "SegLocalVisualizer",
    "pred_instances": "DetLocalVisualizer",
    "pred_score": "ClsVisualizer",
}
DEFAULT_SCORE = 0.3


class Predictor:
    """Predicts on images with a trained model.

    Preprocesses images with the config's test pipeline, or with its validation pipeline if there is no test data. Skips
    transforms that load annotations. The default batch size is also taken from this data. Images of different sizes are
    predicted separately, so that a prediction does not depend on other images.

    Args:
        checkpoint: The path or address of a checkpoint (see `load_checkpoint`), or the result of `open_trained`.
        config: The config, its path or the name of a recipe. By default, the config in the checkpoint, which is read
            as data without executing code.
        device: The device, such as "cuda:1". By default, the accelerator of this machine, or the CPU.
        batch_size: The number of images in a batch. By default, the batch size of the test data, or 1 with
            tiles.
        tile: The size of tiles in pixels. If given, large images are predicted in overlapping tiles, each of which is
            preprocessed like an image; see `footplate_vision.inference.tiling`.
        overlap: The minimum overlap of neighboring tiles, relative to their size.

    Attributes:
        model: The model, in evaluation mode.
        metainfo: The `classes` and the `palette` from the checkpoint or, if it contains none, from the config.
        batch_size: The number of images or tiles in a batch.
        tile: The size of tiles, or None.

    Raises:
        CheckpointError: The checkpoint cannot be read or lacks weights of the model, or neither `config` nor the
            checkpoint provides a config.
        ArgumentError: The device does not exist, or the config has no pipeline that preprocesses test or validation
            images.
    """

    def __init__(
        self,
        checkpoint: "str | os.PathLike[str] | TrainedModel",
        *,
        config: "Config | str | os.PathLike[str] | None" = None,
        device: str | None = None,
        batch_size: int | None = None,
        tile: int | None = None,
        overlap: float = 0.2,
    ) -> None:
        self.tile = None if tile is None else check_count("tile", tile)
        check_number("overlap", overlap, least=0, below=1)
        self._overlap = overlap
        self._device = select_device(device)
        opened = checkpoint if isinstance(checkpoint, TrainedModel) else open_trained(checkpoint, config)
        trained = opened.prepared()
        cfg = trained.cfg
        self._scope = cfg.get("default_scope")
        if not trained.has_data:
            limit = ["Self-supervised models of OpenMMLab packages are not supported."] if self._scope else []
            advice = "Pass a config with such data: --config FILE, or config=FILE in Python. Or use the model directly:"
            raise ArgumentError(NO_PIPELINE, notes=[*limit, advice, *code_to_load(trained.path)])
        with located(cfg), using_scope(self._scope):
            self._preprocessing = Preprocessing(cfg, trained.metainfo)
            settings = cfg.get(f"{self._preprocessing.mode}_cfg") or {}
            self._flags = {name: bool(settings.get(name, False)) for name in ("fp16", "inference_mode")}
        if "PrepareTTAHook" in str(cfg.get("custom_hooks")):
            logging.getLogger("footplate.vision").warning("PrepareTTAHook has no effect on predictions.")
        self.model: Any = trained.build(self._device)
        self.metainfo = trained.metainfo
        default = self._preprocessing.batch_size if tile is None else 1  # tiles may be larger than test images
        self.batch_size = default if batch_size is None else check_count("batch_size", batch_size)
        self._visualizer_cfg = cfg.get("visualizer")
        self._visualizer: Visualizer | None = None

    def __call__(self, images: _Image | Sequence[_Image]) -> Any:
        """Returns the prediction for an image, or a list of predictions for a list of images; see `predict_batch`.

        Args:
            images: The path of an image, a Pillow image, a uint8 array (RGB ``(H, W, 3)`` or grayscale ``(H, W)``), or
                a list of these.

        Raises:
            DataError: An image cannot be read, or a transform dropped it.
            ArgumentError: An input is neither a path nor an image.
        """
        is_list = isinstance(images, (list, tuple))
        pictures: Any = images if is_list else [images]
        if self.tile is not None:
            tiled = [self.predict_tiles(as_image(picture)) for picture in pictures]
            return tiled if is_list else tiled[0]
        samples = (self.preprocess(as_image(picture), index) for index, picture in enumerate(pictures))
        predictions = list(chain.from_iterable(map(self.predict_batch, in_chunks(samples, self.batch_size))))
        return predictions if is_list else predictions[0]

    def predict_tiles(self, image: str | Pixels, shown: Callable[[list[Tile]], Iterable[Tile]] = iter) -> Any:
        """Predicts on the tiles of an image, and merges the predictions.

        Args:
            image: The path of an image, or a uint8 array, as for `preprocess`.
            shown: Returns the tiles one by one, and may show the progress.

        Raises:
            DataError: The image cannot be read.
            ArgumentError: Predictions of the model cannot be merged.
        """
        with open_windows(image, load_rgb) as (width, height, read):
            tiles = tiles_of(width, height, self.tile or max(width, height), self._overlap)
            samples = (self.preprocess(read(tile), index) for index, tile in enumerate(shown(tiles)))
            batches = map(self.predict_batch, in_chunks(samples, self.batch_size))
            threshold = getattr(getattr(self.model, "decode_head", None), "threshold", None)
            return merge(tiles, chain.from_iterable(batches), 0.5 if threshold is None else threshold)

    def preprocess(self, image: str | Pixels, index: int) -> Any:
        """Runs the pipeline on an image and returns a sample for `predict_batch`.

        Args:
            image: The path of an image, or a uint8 array: RGB ``(H, W, 3)`` or grayscale ``(H, W)``.
            index: The index of the image among all images.

        Raises:
            DataError: The image cannot be read, or a transform dropped it.
        """
        return self._preprocessing(image, index)

    def predict_batch(self, samples: Sequence[Any]) -> list[Any]:
        """Returns the predictions for preprocessed samples. Moves data elements and tensors to the CPU.

        Samples of different sizes are not padded to a common size, so a prediction does not depend on other samples.
        """
        parts = groupby(samples, lambda sample: getattr(first_view(sample), "shape", None))
        return list(chain.from_iterable(self._predict(list(part)) for _, part in parts))

    def _predict(self, samples: Sequence[Any]) -> list[Any]:
        with using_scope(self._scope), predicting(self._device, **self._flags):
            step = getattr(self.model, f"{self._preprocessing.mode}_step")
            predictions = step(self._preprocessing.collate(samples))
        if isinstance(self.model, AdaptedModel):
            predictions = self.model.as_data_elements(predictions, samples)
        return [prediction.to("cpu") if hasattr(prediction, "to") else prediction for prediction in predictions]

    def draw(self, image: _Image, prediction: Any, *, score: float = DEFAULT_SCORE) -> Pixels:
        """Draws a prediction on an image and returns the result as a uint8 RGB array of shape ``(H', W', 3)``.

        Returns the predicted image if the model predicts images, and the image without the prediction if the visualizer
        does not support this type of prediction.

        Args:
            image: The path of an image, a Pillow image, or an array, as for `__call__`.
            prediction: The prediction.
            score: The minimum score of the instances to draw.
        """
        restored = restored_image(prediction)
        if restored is not None:
            return restored
        picture = as_image(image)
        pixels = load_rgb(picture) if isinstance(picture, str) else picture
        pixels = np.stack([pixels] * 3, axis=-1) if pixels.ndim == 2 else pixels
        fields = prediction.keys() if hasattr(prediction, "keys") else ()
        if self._visualizer is None:
            section = self._visualizer_cfg if isinstance(self._visualizer_cfg, Mapping) else {"type": "Visualizer"}
            if name_of({"type": "Visualizer", **section}) == "Visualizer":
                section = {"type": next((_VISUALIZERS[key] for key in _VISUALIZERS if key in fields), "Visualizer")}
            settings = {**section, "vis_backends": None, "save_dir": None, "name": f"predictor-{id(self)}"}
            with using_scope(self._scope), at_key("visualizer"):
                self._visualizer = VISUALIZERS.build(settings)
        visualizer: Any = self._visualizer
        visualizer.dataset_meta = dict(self.metainfo)
        if "pred_sem_seg" in fields:  # drawing a label map requires classes and colors
            largest = int(prediction.pred_sem_seg.data.max())
            classes = self.metainfo.get("classes") or [f"class {label}" for label in range(largest + 1)]
            palette = self.metainfo.get("palette") or colors_of_classes([str(name) for name in classes])
            visualizer.dataset_meta |= {"classes": classes, "palette": palette}
        prediction = above_score(prediction, score)
        if type(visualizer).render is not Visualizer.render:
            return visualizer.render(pixels, prediction, draw_gt=False)  # type: ignore[no-any-return]
        # A code base's visualizer draws in add_datasample and stores the drawn image. Some take a minimum score.
        takes_score = "pred_score_thr" in inspect.signature(visualizer.add_datasample).parameters
        minimum = {"pred_score_thr": score} if takes_score else {}
        visualizer.add_datasample("prediction", pixels, prediction, draw_gt=False, draw_pred=True, **minimum)
        return visualizer.get_image()  # type: ignore[no-any-return]


def restored_image(prediction: Any) -> Pixels | None:
    """Returns the RGB image ``(H, W, 3)`` in a prediction of MMagic, or None if the prediction contains no image."""
    image = getattr(getattr(prediction, "output", None), "pred_img", None)
    if image is None or image.ndim != 3:
        return None
    pixels: Pixels = image.expand(3, -1, -1).flip(0).permute(1, 2, 0).round().byte().numpy()  # from BGR
    return pixels


def as_image(image: Any) -> str | Pixels:
    """Returns an image's path or its pixels: a uint8 array of shape ``(H, W, 3)`` (RGB) or ``(H, W)`` (grayscale).

    Raises:
        ArgumentError: The value is neither a path nor an image.
    """
    if isinstance(image, (str, os.PathLike)):
        return os.fspath(image)
    if isinstance(image, Image.Image):
        is_gray = image.mode in ("1", "L", "F") or image.mode.startswith("I")
        loader = LoadImageFromFile(color_type="grayscale" if is_gray else "color", channel_order="rgb")
        pixels: Pixels = loader.add_image({}, image)["img"]
        return pixels
    is_image = isinstance(image, np.ndarray) and image.dtype == np.uint8
    if not is_image or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
        found = (image.shape, str(image.dtype)) if isinstance(image, np.ndarray) else type(image)
        raise ArgumentError(
            "an image must be a path, a Pillow image, or a uint8 array of shape (H, W, 3) or (H, W)", found=found
        )
    return image  # type: ignore[no-any-return]


def load_rgb(path: str) -> Pixels:
    """Loads an image file for drawing, as a uint8 RGB array of shape ``(H, W, 3)``."""
    pixels: Pixels = LoadImageFromFile(channel_order="rgb")({"img_path": path})["img"]
    return pixels


def in_chunks(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    """Yields lists of `size` items. The last list may be shorter."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
