"""Opens a checkpoint with its config, and builds the trained model."""

import inspect
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from footplate.checkpoint import load_checkpoint, load_weights
from footplate.config import Config, parse_recorded
from footplate.engine import Runner, process_setup
from footplate.engine.model_setup import build_model
from footplate.engine.run_config import in_second_generation
from footplate.error_context import located
from footplate.errors import ArgumentError, CheckpointError, ConfigError
from footplate.hosts import import_modules
from footplate.registry import using_scope
from footplate.tasks.recipes import find_config


@dataclass(frozen=True)
class TrainedModel:
    """A checkpoint with its config.

    Args:
        path: The path or address of the checkpoint.
        content: The result of `load_checkpoint`.
        cfg: The config with which the model was trained.
    """

    path: str
    content: Mapping[str, Any]
    cfg: Config

    @property
    def metainfo(self) -> dict[str, Any]:
        """The classes and colors of the training data, if the checkpoint contains them.

        Raises:
            CheckpointError: The classes or colors are not lists.
        """
        meta = _meta(self.content)
        saved = meta.get("dataset_meta")
        if not isinstance(saved, Mapping):
            saved = {key: meta[key] for key in ("CLASSES", "PALETTE") if meta.get(key) is not None}  # of MMCV 1.x
        found = {  # code bases save arrays
            str(key).lower(): value.tolist() if isinstance(value, torch.Tensor | np.ndarray) else value
            for key, value in saved.items()
        }
        for key, kinds in (("classes", (list, tuple)), ("palette", (list, tuple, str))):
            if not isinstance(found.get(key), (*kinds, type(None))):
                raise CheckpointError(
                    f"the {key} in the checkpoint '{self.path}' must be a list",
                    key=f"meta.dataset_meta.{key}",
                    found=found[key],
                )
        return found

    def prepared(self) -> "TrainedModel":
        """Returns a copy with a second-generation config, after importing the modules that the config needs."""
        import_modules(self.cfg)
        with located(self.cfg):
            return replace(self, cfg=in_second_generation(self.cfg))

    def build(self, device: torch.device) -> nn.Module:
        """Builds the model from a prepared config, loads the weights from the checkpoint, and sets evaluation mode.

        Raises:
            CheckpointError: The checkpoint does not contain all weights of the model.
            FootplateError: The model cannot be built.
        """
        if not isinstance(self.cfg.get("model"), Mapping):
            raise ArgumentError("the config has no 'model'", key="model", found=self.cfg.get("model"))
        parameters = inspect.signature(Runner.__init__).parameters.values()
        sections = {each.name: self.cfg.get(each.name, each.default) for each in parameters}
        with located(self.cfg), using_scope(self.cfg.get("default_scope")):
            model = build_model(self.cfg["model"], sections, device)
        load_weights(model, self.content, name=self.path).require_whole_model()
        return model.eval()


def open_trained(
    checkpoint: "str | os.PathLike[str]", config: "Config | str | os.PathLike[str] | None" = None
) -> TrainedModel:
    """Opens a checkpoint with its config. The recorded config is read as data; nothing in the file is executed.

    Args:
        checkpoint: The path or address of the checkpoint.
        config: The config, its path or the name of a recipe. By default, the config in the checkpoint.

    Raises:
        ConfigError: The config cannot be read.
        CheckpointError: The checkpoint cannot be read, or both `config` and the config in the checkpoint are missing.
    """
    path = os.fspath(checkpoint)
    content = load_checkpoint(path)
    if config is None:
        meta = _meta(content)
        text = meta.get("cfg") or meta.get("config")  # `config` in checkpoints of MMCV 1.x
        advice = "Pass the config of its run: --config FILE, or config=FILE in Python."
        if not isinstance(text, str):
            raise CheckpointError(f"the checkpoint '{path}' contains no config", notes=[advice])
        try:
            config = parse_recorded(text, f"{path}.py")
        except ConfigError as error:
            error.notes = (*error.notes, advice)
            raise
    elif not isinstance(config, Config):
        config = Config.fromfile(find_config(os.fspath(config)), import_custom_modules=False)
    return TrainedModel(path, content, config)


def select_device(name: str | None) -> torch.device:
    """Returns the named device. If `name` is None, returns the accelerator of this machine or the CPU.

    Raises:
        ArgumentError: There is no such device.
    """
    if name is None:
        return process_setup.pick_device()
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()  # torch accepts the names of devices that do not exist
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        count = torch.cuda.device_count()
        known = ["cpu", *(f"cuda:{index}" for index in range(count))]
        known += ["mps"] if torch.backends.mps.is_available() else []
        raise ArgumentError(
            f"there is no device '{name}'", notes=[f"Use one of the devices of this machine: {', '.join(known)}."]
        ) from error
    return device


def _meta(content: Mapping[str, Any]) -> Mapping[str, Any]:
    meta = content.get("meta")
    return meta if isinstance(meta, Mapping) else {}
