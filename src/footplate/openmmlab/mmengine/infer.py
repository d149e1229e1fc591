"""The base class for inferencers in code bases, and functions that load published configs and models."""

import logging
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import yaml
from rich.progress import track
from torch import nn

from footplate.checkpoint import load_weights
from footplate.config import Config, parse_recorded
from footplate.config.sources import locate
from footplate.data import build_collate
from footplate.errors import ConfigError
from footplate.openmmlab.mmengine.fileio import get_file_backend
from footplate.openmmlab.mmengine.runner import CheckpointLoader
from footplate.openmmlab.mmengine.torch_utils import get_device
from footplate.openmmlab.mmengine.weights import revert_sync_batchnorm
from footplate.registry import MODELS, VISUALIZERS, default_scope, using_scope

ModelType = dict[str, Any] | Config | str
ImgType = np.ndarray[Any, Any] | torch.Tensor | str
InputType = ImgType | dict[str, Any]
InputsType = InputType | Sequence[InputType]
ResType = dict[str, Any] | list[dict[str, Any]]

_logger = logging.getLogger("footplate.openmmlab")


class BaseInferencer(ABC):
    """Runs a trained model on images in four steps: preprocess, forward, visualize and postprocess.

    Args:
        model: A config file, a config, or the name of a published model. If None, the config stored in the checkpoint
            `weights` is used.
        weights: The path or URL of a checkpoint. By default, published models load their published weights, and other
            models keep their initial weights.
        device: The device; by default, the first available accelerator, or the CPU if there is none.
        scope: The registry scope; by default, the current default scope, or else the config's `default_scope`.
        show_progress: Whether to show a progress bar.

    Raises:
        ConfigError: There is no config, or the published model does not exist.
    """

    preprocess_kwargs: ClassVar[set[str]] = set()
    forward_kwargs: ClassVar[set[str]] = set()
    visualize_kwargs: ClassVar[set[str]] = set()
    postprocess_kwargs: ClassVar[set[str]] = set()

    def __init__(
        self,
        model: Any = None,
        weights: str | None = None,
        device: str | None = None,
        scope: str | None = None,
        show_progress: bool = True,
    ) -> None:
        self.scope = scope or default_scope()
        self.show_progress = show_progress
        if isinstance(model, str) and os.path.isfile(model):
            cfg = Config.fromfile(model)
        elif isinstance(model, str):
            cfg, published = self._load_model_from_metafile(model)
            weights = weights or published
        elif model is not None:
            cfg = model if isinstance(model, Config) else Config(dict(model))
        elif weights is None:
            raise ConfigError(
                "No model was passed. Set `model` to a config or a model name, or `weights` to a checkpoint."
            )
        else:
            recorded = (CheckpointLoader.load_checkpoint(weights).get("meta") or {}).get("cfg")
            if not isinstance(recorded, str):
                raise ConfigError(f"'{weights}' contains no config. Pass the config as `model`.")
            cfg = parse_recorded(recorded, f"{weights}.py")  # parsed as data; no code is executed
        self.scope = self.scope or cfg.get("default_scope")
        with using_scope(self.scope):
            self.model = self._init_model(cfg, weights, device or get_device())
            self.pipeline = self._init_pipeline(cfg)
            self.collate_fn = self._init_collate(cfg)
            self.visualizer = self._init_visualizer(cfg)
        self.cfg = cfg

    def __call__(
        self, inputs: Any, return_datasamples: bool = False, batch_size: int = 1, **kwargs: Any
    ) -> dict[str, Any]:
        """Runs the model on inputs.

        Args:
            inputs: The path of an image or a folder, an array, or a list of these.
            return_datasamples: Whether to return data samples instead of dicts.
            batch_size: The number of images in a batch.
            kwargs: Arguments for the four steps. The class attributes `preprocess_kwargs`, `forward_kwargs`,
                `visualize_kwargs` and `postprocess_kwargs` list the argument names of each step.

        Returns:
            The output of `postprocess`.
        """
        preprocess, forward, visualize, postprocess = self._dispatch_kwargs(**kwargs)
        items = self._inputs_to_list(inputs)
        with using_scope(self.scope):
            batches = self.preprocess(items, batch_size=batch_size, **preprocess)
            predictions: list[Any] = []
            for batch in track(batches, "Inference") if self.show_progress else batches:
                predictions.extend(self.forward(batch, **forward))
            images = self.visualize(items, predictions, **visualize)
            return self.postprocess(predictions, images, return_datasamples, **postprocess)

    def _inputs_to_list(self, inputs: Any) -> list[Any]:
        """Returns the inputs as a list. If the input is a folder, returns the paths of its files."""
        if isinstance(inputs, str) and (backend := get_file_backend(inputs)).isdir(inputs):
            return [backend.join_path(inputs, name) for name in backend.list_dir_or_file(inputs, list_dir=False)]
        return list(inputs) if isinstance(inputs, list | tuple) else [inputs]

    def preprocess(self, inputs: Any, batch_size: int = 1, **kwargs: Any) -> Iterator[Any]:
        """Applies the pipeline to the inputs and yields the results in batches."""
        for chunk in self._get_chunk_data(map(self.pipeline, inputs), batch_size):
            yield self.collate_fn(chunk)

    @torch.no_grad()
    def forward(self, inputs: Any, **kwargs: Any) -> Any:
        """Returns the predictions for a batch."""
        return self.model.test_step(inputs)  # type: ignore[operator]

    @abstractmethod
    def visualize(self, inputs: list[Any], preds: Any, show: bool = False, **kwargs: Any) -> Any:
        """Draws the predictions. Returns the images, or None if nothing was drawn."""

    @abstractmethod
    def postprocess(
        self, preds: Any, visualization: Any, return_datasample: bool = False, **kwargs: Any
    ) -> dict[str, Any]:
        """Returns the results as a dict, usually with the keys `predictions` and `visualization`."""

    def _init_model(self, cfg: Any, weights: str | None, device: str = "cpu") -> nn.Module:
        """Builds the model on the device, loads its weights and switches it to evaluation mode."""
        cfg.model.pop("pretrained", None)
        model = revert_sync_batchnorm(MODELS.build(cfg.model))
        checkpoint = None if weights is None else CheckpointLoader.load_checkpoint(weights)
        self._load_weights_to_model(model, checkpoint, cfg)
        model.cfg = cfg
        return model.to(device).eval()

    def _load_weights_to_model(self, model: nn.Module, checkpoint: Any, cfg: Any) -> None:
        """Loads weights and dataset metadata from a checkpoint. If `checkpoint` is None, warns about random weights."""
        if checkpoint is None:
            _logger.warning("No checkpoint was specified, so the model has random weights.")
            return
        load_weights(model, checkpoint)
        meta = checkpoint.get("meta", {})
        found = meta.get("dataset_meta", {"CLASSES": meta["CLASSES"]} if "CLASSES" in meta else None)
        if found is not None:
            lower: Any = {str(key).lower(): value for key, value in found.items()}
            model.dataset_meta = lower

    def _init_collate(self, cfg: Any) -> Callable[..., Any]:
        """Returns the collate function of `test_dataloader`, by default `pseudo_collate`."""
        return build_collate(cfg.get("test_dataloader", {}))

    @abstractmethod
    def _init_pipeline(self, cfg: Any) -> Callable[..., Any]:
        """Returns a function that converts an input to the format expected by the model."""

    def _init_visualizer(self, cfg: Any) -> Any:
        """Builds the config's visualizer. Returns None if the config has no visualizer."""
        if "visualizer" not in cfg:
            return None
        return VISUALIZERS.build({**cfg.visualizer, "name": f"inferencer-{id(self)}"})

    def _get_chunk_data(self, inputs: Iterable[Any], chunk_size: int) -> Iterator[list[Any]]:
        """Yields lists of `chunk_size` items. The last list may be shorter."""
        items = iter(inputs)
        while chunk := list(islice(items, chunk_size)):
            yield chunk

    def _dispatch_kwargs(self, **kwargs: Any) -> tuple[dict[str, Any], ...]:
        """Splits keyword arguments into one dict for each of the four steps.

        Raises:
            ValueError: An argument does not belong to any step.
        """
        steps = [self.preprocess_kwargs, self.forward_kwargs, self.visualize_kwargs, self.postprocess_kwargs]
        if unknown := kwargs.keys() - set().union(*steps):
            raise ValueError(f"Unknown arguments: {', '.join(sorted(unknown))}.")
        return tuple({key: value for key, value in kwargs.items() if key in names} for names in steps)

    @staticmethod
    def _get_repo_or_mim_dir(scope: str) -> str:
        """Returns the folder with the published configs of a code base.

        Raises:
            ConfigError: The code base is not installed, or does not include configs.
        """
        return os.path.dirname(locate(scope, "model-index.yml"))

    @classmethod
    def _get_models_from_metafile(cls, dir: str) -> Iterator[dict[str, Any]]:
        """Yields the entry of each published model listed in a folder's metafiles."""
        for name in yaml.safe_load(Path(dir, "model-index.yml").read_text("utf-8"))["Import"]:
            content = yaml.safe_load(Path(dir, name).read_text("utf-8"))
            models = content["Models"] if isinstance(content, dict) else content
            yield from (model for model in models if isinstance(model, dict))

    def _load_model_from_metafile(self, model: str) -> tuple[Config, str | None]:
        """Returns the config of a published model and the URL of its weights.

        Raises:
            ConfigError: No code base is set, or the code base has no model with this name.
        """
        if self.scope is None:
            raise ConfigError(f"'{model}' is not a file. To find a published model, pass its code base as `scope`.")
        folder = self._get_repo_or_mim_dir(self.scope)
        for found in self._get_models_from_metafile(folder):
            if model in (found["Name"], Path(found["Config"]).stem, *_aliases(found)):
                return Config.fromfile(os.path.join(folder, found["Config"])), found.get("Weights")
        raise ConfigError(f"'{model}' is neither a file nor a published model of the code base '{self.scope}'.")

    @staticmethod
    def list_models(scope: str | None = None, patterns: str = r".*") -> list[str]:
        """Returns the names of a code base's published models that match the regular expression `patterns`.

        Only the start of a name has to match.

        Raises:
            ConfigError: There is neither a `scope` nor a default scope, or the code base is not installed or does not
                include configs.
        """
        scope = scope or default_scope()
        if scope is None:
            raise ConfigError("There is no default scope. Pass a code base as `scope`, such as 'mmseg'.")
        models = BaseInferencer._get_models_from_metafile(BaseInferencer._get_repo_or_mim_dir(scope))
        names = (name for found in models for name in _aliases(found) or [found["Name"]])
        return [name for name in names if re.match(patterns, name)]


def _aliases(model: Mapping[str, Any]) -> list[str]:
    alias = model.get("Alias") or []
    return [alias] if isinstance(alias, str) else alias


def get_config(cfg_path: str, pretrained: bool = False) -> Config:
    """Returns a published config of an installed code base.

    Args:
        cfg_path: The code base and the config's path, such as `mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py`.
        pretrained: Whether to set `model_path` in the config to the URL of the published weights.

    Raises:
        ConfigError: The code base is not installed or has no such config, or `pretrained` is set and no weights are
            published.
    """
    scope, separator, path = cfg_path.partition("::")
    if not separator:
        raise ConfigError(f"'{cfg_path}' does not specify a code base. Use the form 'mmdet::faster_rcnn/...py'.")
    cfg = Config.fromfile(cfg_path)
    if not pretrained:
        return cfg
    for model in BaseInferencer._get_models_from_metafile(BaseInferencer._get_repo_or_mim_dir(scope)):
        if model["Config"].removeprefix("configs/") == path:
            cfg["model_path"] = model["Weights"]
            return cfg
    raise ConfigError(f"No weights are published for '{cfg_path}'.")


def get_model(cfg_path: str, pretrained: bool = False, **kwargs: Any) -> Any:
    """Builds the model of a published config, optionally with its published weights.

    Args:
        cfg_path: See `get_config`.
        pretrained: Whether to load the published weights.
        kwargs: Default arguments for the model, which the config overrides.
    """
    cfg = get_config(cfg_path, pretrained)
    with using_scope(cfg_path.partition("::")[0]):
        model = MODELS.build({**kwargs, **cfg.model})
    if pretrained:
        load_weights(model, CheckpointLoader.load_checkpoint(cfg["model_path"]))
    return model
