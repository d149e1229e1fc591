"""Writers for local files: JSON lines, images and configs, and TensorBoard events."""

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from footplate.config import Config, as_python
from footplate.errors import ConfigError
from footplate.records.base_writer import BaseVisBackend, ImageArray, Scalars, Tracker
from footplate.registry import VISBACKENDS
from footplate.storage import append_line, check_output_path, commit_bytes, commit_image, output_path

LAYOUT_TEXT = "footplate-layout"  # the key of the layout in a PNG file
_logger = logging.getLogger("footplate.records")
_MARK = "# Written by a run, which replaces this file only while it is unchanged: "


class MetricStep(int):
    """The step of a run's metrics, in epochs or iterations.

    A subclass of int, so that visualizers with MMEngine's signatures pass it on to the writers.

    Attributes:
        iteration: The training iteration.
    """

    iteration: int

    def __new__(cls, step: int, iteration: int) -> "MetricStep":
        value = super().__new__(cls, step)
        value.iteration = iteration
        return value


@VISBACKENDS.register_module()
class LocalVisBackend(BaseVisBackend):
    """Writes files to `save_dir`: scalars as JSON lines, images as PNG, and the config as Python.

    Args:
        save_dir: The output folder, `work_dir/<timestamp>/vis_data` in a run.
        img_save_dir: The folder for images inside `save_dir`, or "" for `save_dir` itself.
        config_save_file: The name of the file with the config.
        scalar_save_file: The name of the file for scalars.
    """

    def __init__(
        self,
        save_dir: str | None = None,
        img_save_dir: str = "vis_image",
        config_save_file: str = "config.py",
        scalar_save_file: str = "scalars.json",
    ) -> None:
        super().__init__(save_dir)
        self._images = check_output_path(img_save_dir or os.curdir, key="img_save_dir")
        self._config = check_output_path(config_save_file, key="config_save_file")
        self._scalars = check_output_path(scalar_save_file, key="scalar_save_file")

    @cached_property
    def folder(self) -> str:
        """The output folder, which is created on first use."""
        folder = self._save_dir or "vis_data"
        os.makedirs(folder, exist_ok=True)
        return folder

    def add_config(self, config: Any, **kwargs: Any) -> None:
        """Writes the config as Python. `footplate report` and `diff` parse it; `explain` and `check` execute it."""
        write_config(config, os.path.join(self.folder, self._config))

    def add_image(self, name: str, image: ImageArray, step: int = 0, **kwargs: Any) -> None:
        """Writes a uint8 image of shape `(H, W, 3)` or `(H, W)` to `<img_save_dir>/<name>_<step>.png`.

        If the image has an attribute `layout`, which describes its panels, the file also contains the layout as JSON.
        """
        path = output_path(self.folder, f"{self._images}/{name}_{step}.png")
        texts = PngInfo()
        if layout := getattr(image, "layout", None):
            texts.add_text(LAYOUT_TEXT, json.dumps(layout))
        commit_image(path, Image.fromarray(np.ascontiguousarray(image)), pnginfo=texts)

    def add_scalars(
        self, scalar_dict: Mapping[str, Any], step: int = 0, file_path: str | None = None, **kwargs: Any
    ) -> None:
        """Appends several scalars as one JSON line. If `file_path` is set, also appends the line to that file.

        If `step` is a `MetricStep`, also writes its iteration.
        """
        line = {name: value.item() if hasattr(value, "item") else value for name, value in scalar_dict.items()}
        line["step"] = line.pop("step", step)
        if isinstance(step, MetricStep):
            line["iteration"] = step.iteration
        text = json.dumps(line)
        for name in (self._scalars, file_path):
            if name is not None:
                append_line(output_path(self.folder, name), text)


@VISBACKENDS.register_module()
class TensorboardVisBackend(Tracker):
    """Writes scalars, images and the config as TensorBoard events to `save_dir`.

    With a custom `save_dir`, a resumed run writes to the same folder, and replaces events that the earlier run wrote
    after the checkpoint was saved, except for metrics recorded by epoch.

    Args:
        save_dir: The output folder, `work_dir/<timestamp>/vis_data` in a run.

    Raises:
        MissingExtraError: The package tensorboard is not installed.
    """

    package = "tensorboard"

    def add_config(self, config: Any, **kwargs: Any) -> None:
        """Writes the config as text."""
        self.experiment.add_text("config", f"```python\n{config.pretty_text}\n```")

    def _start(self) -> Any:
        from torch.utils.tensorboard import SummaryWriter  # fails without the package

        last = self.identity.get("last_step")
        return SummaryWriter(self.folder, purge_step=None if last is None else last + 1)

    def _write(self, values: Scalars, step: int) -> None:
        for name, value in values.items():
            self.experiment.add_scalar(name, value, step)
        self.identity["last_step"] = max(step, self.identity.get("last_step", 0))

    def _write_image(self, name: str, image: ImageArray, step: int) -> None:
        self.experiment.add_image(name, image, step, dataformats="HWC" if image.ndim == 3 else "HW")

    def _finish(self) -> None:
        self._run.close()


def write_config(config: Config, path: str, *, signed: bool = False) -> None:
    """Atomically writes a config as Python.

    Logs a warning if the config contains an object that cannot be written as source code.

    Args:
        config: The config.
        path: The output file.
        signed: Whether to add a first line that `is_written_config` recognizes.
    """
    try:
        text = as_python(config)
    except ConfigError as error:
        _logger.warning("The config in '%s' lacks a value: %s (%s).", path, error.message, error.key or "top level")
        text = config.pretty_text
    commit_bytes(path, (_signed(text) if signed else text).encode())


def is_written_config(path: str) -> bool:
    """Checks whether `write_config` wrote the file at `path` with `signed=True`, and the file is unchanged."""
    try:
        first, _, text = Path(path).read_text(encoding="utf-8").partition("\n")
    except (OSError, UnicodeDecodeError):
        return False
    return first.startswith(_MARK) and f"{first}\n{text}" == _signed(text)


def _signed(text: str) -> str:
    return f"{_MARK}{hashlib.sha256(text.encode()).hexdigest()[:16]}\n{text}"
