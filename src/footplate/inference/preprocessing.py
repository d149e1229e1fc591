"""Preprocesses images for predictions with the pipeline of the test data, without loading annotations."""

import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from footplate.checks import check_count
from footplate.config import Config
from footplate.data import Compose, build_collate
from footplate.data.transforms import LoadImageFromFile
from footplate.error_context import at_key
from footplate.errors import ArgumentError, DataError, FootplateError
from footplate.evaluation.evaluation_sets import has_several_loaders
from footplate.messages import one_line
from footplate.registry import DATASETS, TRANSFORMS

Pixels = npt.NDArray[np.uint8]
_LOADS_IMAGE = re.compile(r"Load\w*Image")
_LOADS_ANNOTATIONS = re.compile(r"Load\w*(Annotation|Proposals|SegMap)")
_DEFAULT_SIZE = (224, 224)
_DEFAULT_LOADER = {"type": "LoadImageFromFile", "channel_order": "rgb"}


class Preprocessing:
    """Converts images to batches as the test dataloader does. Uses the validation data if there is no test data.

    Args:
        cfg: The config, in second-generation form.

    Attributes:
        mode: "test" or "val", depending on which data the pipeline belongs to.
        batch_size: The batch size of this data.
        image_size: The height and width of an example image, before the pipeline.

    Raises:
        ArgumentError: The config has no test or validation data with a pipeline.
    """

    def __init__(self, cfg: Config) -> None:
        self.mode, section = _evaluation_section(cfg)
        key = f"{self.mode}_dataloader.dataset"
        dataset = section.get("dataset")
        while isinstance(dataset, Mapping) and "pipeline" not in dataset:  # a wrapper; continue with its first dataset
            inner = dataset.get("dataset") or next(iter(dataset.get("datasets") or ()), None)
            if inner is None:
                break
            dataset = inner
        if not isinstance(dataset, Mapping) or not isinstance(dataset.get("pipeline"), Sequence):
            raise ArgumentError(
                "the dataset has no `pipeline` that preprocesses images",
                key=key,
                found=dataset.get("type") if isinstance(dataset, Mapping) else None,
                notes=["Use a config whose test data has a `pipeline`."],
            )
        transforms = [each for each in dataset["pipeline"] if not _LOADS_ANNOTATIONS.match(_name_of(each))]
        is_loader = [bool(_LOADS_IMAGE.match(_name_of(each))) for each in transforms]
        with at_key(key):
            kind = DATASETS.resolve(dataset.get("type"), dataset)
            self.image_size: tuple[int, int] = getattr(kind, "image_size", _DEFAULT_SIZE)
            if not any(is_loader):  # the dataset itself loads or makes its images
                own = getattr(kind, "image_loader", _DEFAULT_LOADER)
                transforms, is_loader = [own, *transforms], [True, *is_loader]
            place = is_loader.index(True)
            with at_key("pipeline"):
                self._before = Compose(transforms[:place])
                self._loader = TRANSFORMS.build(transforms[place])
                self._after = Compose(transforms[place + 1 :])
        with at_key(f"{self.mode}_dataloader"):
            self.collate = build_collate(section)
            batch_size = section.get("batch_size")
            self.batch_size = 1 if batch_size is None else check_count("batch_size", batch_size)

    def __call__(self, image: str | Pixels, index: int, name: str = "") -> Any:
        """Returns the preprocessed sample of an image.

        Args:
            image: The path of a file, or a uint8 array: RGB ``(H, W, 3)`` or grayscale ``(H, W)``.
            index: The index of the image, which becomes its `sample_idx` and `img_id`.
            name: The `img_path` of an image that is not a file.

        Raises:
            DataError: The image cannot be read, or a transform dropped it.
        """
        results = {"img_id": index, "sample_idx": index, **_file(image if isinstance(image, str) else name)}
        results = self._before(results)
        if isinstance(image, str):
            results = self._load(results)
        elif type(self._loader) is LoadImageFromFile:
            results = self._loader.add_image(results, Image.fromarray(image))
        else:  # a loader of a code base, which only reads files
            original = results["img_path"]
            with tempfile.TemporaryDirectory(prefix="footplate-predict-") as folder:
                path = os.path.join(folder, "image.png")
                Image.fromarray(image).save(path, compress_level=1)
                results = self._loader({**results, **_file(path)})
            if results is not None:
                results |= _file(original)
        sample = None if results is None else self._after(results)
        if sample is None:
            raise DataError(f"the pipeline of the {self.mode} data drops the image '{name or image}'")
        return sample

    def _load(self, results: dict[str, Any]) -> Any:
        """Loads a file. Converts all errors to DataError, because custom loaders may raise any type."""
        try:
            return self._loader(results)
        except FootplateError:
            raise
        except Exception as error:
            reason = one_line(f"{type(error).__name__}: {error}")
            raise DataError(f"the image '{results['img_path']}' cannot be read: {reason}") from error


def _file(path: str) -> dict[str, Any]:
    """Returns a sample with the path of an image, under the keys that the loaders of both generations read."""
    return {"img_path": path, "img_prefix": None, "img_info": {"filename": path}}


def _evaluation_section(cfg: Config) -> tuple[str, Mapping[str, Any]]:
    """Returns "test" and the test section, or "val" and the validation section if there is no test data."""
    for mode in ("test", "val"):
        section = cfg.get(f"{mode}_dataloader")
        if has_several_loaders(section):  # uses the first of several datasets
            section = next(iter(section.values()))
        if isinstance(section, Mapping):
            return mode, section
    raise ArgumentError(
        "the config has neither test data nor validation data with a pipeline that preprocesses images",
        key="test_dataloader",
        notes=["Use a config with a test_dataloader."],
    )


def _name_of(transform: Any) -> str:
    """Returns the name of a transform's class, without its scope or module."""
    kind = transform.get("type") if isinstance(transform, Mapping) else type(transform)
    return str(kind if isinstance(kind, str) else getattr(kind, "__name__", kind)).rpartition(".")[2]
