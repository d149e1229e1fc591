"""Opens a checkpoint with its config, and builds the trained model and its image preprocessing."""

import copy
import inspect
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from footplate.checkpoint import load_checkpoint, load_weights
from footplate.checks import check_count
from footplate.config import Config, import_modules, parse_recorded
from footplate.data import Compose, LoadImageFromFile, build_collate
from footplate.data.data_container import DataContainer
from footplate.engine import Runner
from footplate.engine.control import process_setup
from footplate.engine.plan.model_setup import build_model
from footplate.error_context import at_key, located
from footplate.errors import ArgumentError, CheckpointError, ConfigError, DataError, FootplateError
from footplate.evaluation.evaluation_sets import has_several_loaders
from footplate.extensions import translate
from footplate.messages import one_line
from footplate.registry import DATASETS, TRANSFORMS, using_scope
from footplate.tools.run_facts import code_to_load

Pixels = NDArray[np.uint8]
_LOADS_IMAGE = re.compile(r"Load\w*Im(age|g)")
_LOADS_POINTS = re.compile(r"Load\w*Points")
_SAMPLES_FRAMES = re.compile(r"\w*SampleFrames|UniformSample")  # transforms of MMAction2
_LOADS_ANNOTATIONS = re.compile(r"Load\w*(Annotation|Proposals|SegMap)")
NO_PIPELINE = "the config has no test or validation data with a pipeline that preprocesses images"
_WITHOUT_PIPELINE = (
    "Without a pipeline, build the model in Python, and call load_weights. Then call the model to predict, or "
    "torch.onnx.export to export it."
)
CONFIG_ADVICE = "Pass the training run's config: --config FILE, or config=FILE in Python."
_DEFAULT_SIZE = (224, 224)
_DEFAULT_LOADER = {"type": LoadImageFromFile, "channel_order": "rgb"}  # mmcv registers a class of this name


@runtime_checkable
class AdaptedModel(Protocol):
    """A model whose results, and whose normalization, do not have the form that `predict` and `export` need."""

    def as_data_elements(self, results: Sequence[Any], samples: Sequence[Any]) -> list[Any]:
        """Converts the results for a batch of samples to data elements."""
        ...

    def for_export(self, cfg: Config, to: str) -> tuple[Any, Config]:
        """Returns a module with the model and its normalization, and the config without this normalization.

        Args:
            cfg: The config, which is not changed.
            to: The export format, for error messages.
        """
        ...


@dataclass(frozen=True)
class TrainedModel:
    """A checkpoint with its config.

    Args:
        path: The path or address of the checkpoint; see `load_checkpoint`.
        content: The result of `load_checkpoint`.
        cfg: The config that the model was trained with.
    """

    path: str
    content: Mapping[str, Any]
    cfg: Config

    @property
    def meta(self) -> Mapping[str, Any]:
        """The metadata in the checkpoint."""
        meta = self.content.get("meta")
        return meta if isinstance(meta, Mapping) else {}

    @property
    def has_data(self) -> bool:
        """Whether the config has test or validation data. Configs of runs built from Python objects have neither."""
        return any(self.cfg.get(f"{mode}_dataloader") is not None for mode in ("test", "val"))

    @property
    def metainfo(self) -> dict[str, Any]:
        """The classes and colors in the checkpoint or, if it contains none, in the config's evaluation data."""
        meta = self.meta
        saved = meta.get("dataset_meta")
        if not isinstance(saved, Mapping):
            saved = {key: meta[key] for key in ("CLASSES", "PALETTE") if meta.get(key) is not None}  # of MMCV 1.x
        if not saved and self.has_data:
            with using_scope(self.cfg.get("default_scope")):
                saved = _labels_in(_evaluation_section(self.cfg)[1].get("dataset"))
        return {  # code bases save arrays
            str(key).lower(): value.tolist() if isinstance(value, torch.Tensor | np.ndarray) else value
            for key, value in saved.items()
        }

    def prepared(self) -> "TrainedModel":
        """Imports the modules that the config needs, and returns a copy with a second-generation config.

        Raises:
            CheckpointError: There is no config.
        """
        if not self.cfg:
            notes = [f"{CONFIG_ADVICE} Without a config, use Python:", *code_to_load(self.path)]
            raise CheckpointError(f"the checkpoint '{self.path}' contains no config", notes=notes)
        import_modules(self.cfg)
        with located(self.cfg):
            return replace(self, cfg=translate(self.cfg))

    def build(self, device: torch.device) -> nn.Module:
        """Builds the model from a prepared config, loads the checkpoint's weights, and switches to evaluation mode.

        Raises:
            CheckpointError: The checkpoint does not contain all weights of the model.
            FootplateError: The model cannot be built.
        """
        cfg = self.cfg
        if not isinstance(cfg.get("model"), Mapping):
            raise ArgumentError("the 'model' section of the config must be a dict", key="model", found=cfg.get("model"))
        parameters = inspect.signature(Runner.__init__).parameters
        sections = {name: cfg.get(name, parameter.default) for name, parameter in parameters.items()}
        with located(cfg), using_scope(cfg.get("default_scope")):
            # Some models change their config, and it may be built again.
            model = build_model(copy.deepcopy(cfg["model"]), sections, device)
        load_weights(model, self.content, name=self.path).require_whole_model()
        model.eval()  # returns None if a detector of MMDetection has a teacher
        return model


def open_trained(
    checkpoint: "str | os.PathLike[str]", config: "Config | str | os.PathLike[str] | None" = None
) -> TrainedModel:
    """Opens a checkpoint with its config.

    No code from the checkpoint is executed, and its config is read as data. If `config` is None and the checkpoint
    contains no config, the result has an empty config.

    Args:
        checkpoint: The path or address of the checkpoint; see `load_checkpoint`.
        config: The config, its path or the name of a recipe. A Python file is executed. By default, the config in the
            checkpoint is used.

    Raises:
        ConfigError: The config cannot be read.
        CheckpointError: The checkpoint cannot be read.
    """
    trained = TrainedModel(os.fspath(checkpoint), load_checkpoint(checkpoint), Config())
    if config is None:
        text = trained.meta.get("cfg") or trained.meta.get("config")  # `config` in checkpoints of MMCV 1.x
        try:
            config = parse_recorded(text, f"{trained.path}.py") if isinstance(text, str) else Config()
        except ConfigError as error:
            error.notes = (*error.notes, CONFIG_ADVICE)
            raise
    elif not isinstance(config, Config):
        config = Config.fromfile(config, import_custom_modules=False)
    return replace(trained, cfg=config)


def select_device(name: str | None) -> torch.device:
    """Returns the device called `name`. By default, returns the accelerator, or the CPU if none exists.

    Raises:
        ArgumentError: The device does not exist or cannot be used.
    """
    if name is None:
        return process_setup.pick_device()
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()  # torch accepts the names of devices that do not exist
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ArgumentError(
            f"the device '{name}' cannot be used", notes=[one_line(str(error)).partition(". ")[0]]
        ) from error
    return device


class EvaluationData:
    """The test data of a config, or the validation data if there is no test data.

    Args:
        cfg: The config, in second-generation form.

    Attributes:
        mode: "test" or "val".
        key: The key path of the dataset.
        dataset: The config of the dataset.
        transforms: The configs of its transforms, except transforms that load annotations.
        collate: The function that merges samples into a batch.
        batch_size: The batch size.

    Raises:
        ArgumentError: The config has no test or validation data, or this data has no pipeline.
    """

    def __init__(self, cfg: Config) -> None:
        self.mode, section = _evaluation_section(cfg)
        self.key = f"{self.mode}_dataloader.dataset"
        dataset = section.get("dataset")
        while isinstance(dataset, Mapping) and "pipeline" not in dataset:  # a wrapper; continue with its first dataset
            dataset = _first_dataset(dataset)
        if dataset is None:
            message = f"the {self.mode} data in the config has no pipeline that preprocesses images"
            notes = [f"Use a config whose {self.mode} data has a `pipeline`.", _WITHOUT_PIPELINE]
            raise ArgumentError(message, key=self.key, notes=notes)
        self.dataset: Mapping[str, Any] = dataset
        self.transforms = [step for step in dataset["pipeline"] if not _LOADS_ANNOTATIONS.match(name_of(step))]
        with at_key(f"{self.mode}_dataloader"):
            self.collate = build_collate(section)
            batch_size = section.get("batch_size")
            self.batch_size = 1 if batch_size is None else check_count("batch_size", batch_size)


class Preprocessing(EvaluationData):
    """Converts images to batches in the same way as the test dataloader.

    Args:
        cfg: The config, in second-generation form.
        metainfo: The metadata of the dataset, which pose models read from each sample.

    Attributes:
        image_size: The height and width of an example image, before the pipeline.

    Raises:
        ArgumentError: The model does not predict on images, or as for `EvaluationData`.
    """

    def __init__(self, cfg: Config, metainfo: Mapping[str, Any]) -> None:
        super().__init__(cfg)
        names = list(map(name_of, self.transforms))
        self._metainfo = metainfo if "PackPoseInputs" in names else {}
        self._takes_box = "GetBBoxCenterScale" in names
        with at_key(self.key):
            unsupported = {
                "point clouds": any(map(_LOADS_POINTS.match, names)),
                "clips": any(map(_SAMPLES_FRAMES.fullmatch, names)),
                "the datasets of MMSelfSup 0.x": "data_source" in self.dataset,
            }
            for kind_of_data, is_used in unsupported.items():
                if is_used:
                    notes = ["To predict, use MMAction2's inference_recognizer."] if kind_of_data == "clips" else []
                    raise ArgumentError(f"predict and export do not support {kind_of_data}", notes=notes)
            kind = DATASETS.resolve(self.dataset.get("type"), self.dataset)
            transforms = _without_targets(self.transforms, kind)
            self.image_size: tuple[int, int] = getattr(kind, "image_size", _DEFAULT_SIZE)
            if not any(map(_loads_image, transforms)):  # the dataset itself loads or makes its images
                transforms = [getattr(kind, "image_loader", _DEFAULT_LOADER), *transforms]
            place = list(map(_loads_image, transforms)).index(True)
            with at_key("pipeline"):
                self._before = Compose(transforms[:place])
                self._loader = TRANSFORMS.build(transforms[place])
                self._after = Compose(transforms[place + 1 :])

    def __call__(self, image: str | Pixels, index: int, name: str = "") -> Any:
        """Preprocesses an image and returns its sample.

        Args:
            image: The path of a file, or a uint8 array: RGB ``(H, W, 3)`` or grayscale ``(H, W)``.
            index: The index of the image, which becomes its `sample_idx` and `img_id`.
            name: The `img_path` to record for an image that is not a file.

        Raises:
            DataError: The image cannot be read, or a transform dropped it.
        """
        file = _file(image if isinstance(image, str) else name)
        results = self._before({"img_id": index, "sample_idx": index, **file, **self._metainfo})
        if isinstance(image, str):
            with reading(f"the image '{results['img_path']}'"):
                results = self._loader(results)
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
        if self._takes_box and results is not None:  # as MMPose does for an image without boxes
            height, width = results["img"].shape[:2]
            results |= {"bbox": np.array([[0, 0, width, height]], np.float32), "bbox_score": np.ones(1, np.float32)}
        sample = None if results is None else self._after(results)
        if sample is None:
            shown = image if isinstance(image, str) else name or index
            raise DataError(f"the {self.mode} data pipeline drops the image '{shown}'")
        return sample


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Converts any exception in the block except FootplateError to DataError.

    Decoders and custom loaders may raise exceptions of any type.

    `what` is the name of the input in the message, such as "the image 'a.png'".
    """
    try:
        yield
    except FootplateError:
        raise
    except Exception as error:
        reason = one_line(f"{type(error).__name__}: {error}")
        raise DataError(f"{what} cannot be read: {reason}") from error


def _file(path: str) -> dict[str, Any]:
    """Returns a sample with the image path, under the keys that first- and second-generation transforms read."""
    return {"img_path": path, "img_prefix": None, "img_info": {"filename": path}}


def _evaluation_section(cfg: Config) -> tuple[str, Mapping[str, Any]]:
    """Returns "test" and the test dataloader's section, or "val" and the validation section if there is no test data.

    Raises:
        ArgumentError: There is neither test nor validation data.
    """
    for mode in ("test", "val"):
        section = cfg.get(f"{mode}_dataloader")
        if has_several_loaders(section):  # uses the first of several datasets
            section = next(iter(section.values()))
        if isinstance(section, Mapping):
            return mode, section
    raise ArgumentError(
        NO_PIPELINE, key="test_dataloader", notes=["Use a config with a test_dataloader.", _WITHOUT_PIPELINE]
    )


def _loads_image(step: Any) -> bool:
    return _LOADS_IMAGE.match(name_of(step)) is not None


def _without_targets(transforms: list[Any], kind: Any) -> list[Any]:
    """Removes the transforms that load target images, as in MMagic, where each loader has a `key`.

    Raises:
        ArgumentError: The pipeline does not load an input image, or the dataset class `kind` loads several frames.
    """
    loaders = [step for step in transforms if _loads_image(step) and isinstance(step, Mapping)]
    keys = [step.get("key", "img") for step in loaders]
    loads_frames = "Frames" in kind.__name__ and any("key" in step for step in loaders)
    if loaders and ("img" not in keys or loads_frames):
        raise ArgumentError(
            "predict and export only support models whose input is a single image",
            found=kind.__name__ if loads_frames else keys,
            notes=["Use the inferencers of the code base after footplate_openmmlab.install()."],
        )
    return [step for step in transforms if step not in loaders or step.get("key", "img") == "img"]


def _labels_in(dataset: Any) -> dict[str, Any]:
    """Returns the classes and colors that a dataset's config or class sets, or {} if neither sets classes.

    For a wrapper without classes, searches its first dataset.
    """
    while isinstance(dataset, Mapping):
        kind: Any = None
        with suppress(FootplateError):  # the dataset itself is not needed
            kind = DATASETS.resolve(dataset.get("type"), dataset)
        of_class = getattr(kind, "METAINFO", {"classes": getattr(kind, "CLASSES", None)})
        for source in (dataset.get("metainfo") or {}, dataset, of_class):
            if source.get("classes") is not None:  # may also be the path of a file, which is not read
                return {key: source[key] for key in ("classes", "palette") if isinstance(source.get(key), list | tuple)}
        dataset = _first_dataset(dataset)
    return {}


def _first_dataset(wrapper: Mapping[str, Any]) -> Any:
    """Returns the config of the first dataset in a dataset wrapper's config, or None if it contains none."""
    return wrapper.get("dataset") or next(iter(wrapper.get("datasets") or ()), None)


def first_view(sample: Any) -> Any:
    """Returns the image of a sample or the images of a batch. With several views, returns the first view."""
    inputs = sample.get("inputs", sample.get("img")) if isinstance(sample, Mapping) else sample
    while isinstance(inputs, (list, tuple)) and inputs:
        inputs = inputs[0]
    return inputs.data if isinstance(inputs, DataContainer) else inputs


def flattened(pipeline: Any) -> list[Any]:
    """Returns the transforms of a pipeline. Replaces a `MultiScaleFlipAug` with the transforms of its first view."""
    transforms = []
    for step in pipeline:
        for inner in step.get("transforms") or [step]:
            if inner is not step and name_of(inner) == "Resize" and "img_scale" in step:
                transforms.append({**inner, "img_scale": step["img_scale"]})
            elif inner is step or name_of(inner) != "RandomFlip":  # the first view is not flipped
                transforms.append(inner)
    return transforms


def name_of(component: Any) -> str:
    """Returns the class name of a component or its config, without its scope or module."""
    kind = component.get("type") if isinstance(component, Mapping) else type(component)
    return str(kind if isinstance(kind, str) else getattr(kind, "__name__", kind)).rpartition(".")[2]
