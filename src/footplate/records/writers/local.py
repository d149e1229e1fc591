"""The writer that needs nothing but a folder."""

import errno
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from footplate.errors import ArgumentError, ConfigError
from footplate.records.writers.base import BaseVisBackend
from footplate.registry import VISBACKENDS

_logger = logging.getLogger("footplate.records")


@VISBACKENDS.register_module()
class LocalVisBackend(BaseVisBackend):
    """Writes scalars as lines of JSON, pictures as PNG and the config as Python, under `save_dir`.

    Args:
        save_dir: The folder, `work_dir/<timestamp>/vis_data` in a run.
        img_save_dir: Where pictures go, inside `save_dir`.
        config_save_file: The name of the config.
        scalar_save_file: The name of the scalars.
    """

    def __init__(
        self,
        save_dir: str | None = None,
        img_save_dir: str = "vis_image",
        config_save_file: str = "config.py",
        scalar_save_file: str = "scalars.json",
    ) -> None:
        super().__init__(save_dir)
        for name, suffix in ((config_save_file, ".py"), (scalar_save_file, ".json")):
            if not name.endswith(suffix):
                raise ArgumentError(f"a file that LocalVisBackend writes must end with '{suffix}'", found=name)
        self._folder: Path | None = None
        self._images = img_save_dir
        self._config = config_save_file
        self._scalars = scalar_save_file

    @property
    def folder(self) -> Path:
        """Where everything is written; made on first use."""
        if self._folder is None:
            self._folder = Path(self._save_dir or "vis_data")
            self._folder.mkdir(parents=True, exist_ok=True)
        return self._folder

    def add_config(self, config: Any, **kwargs: Any) -> None:
        """Writes the config as a file that reads back equal."""
        write_config(config, str(self.folder / self._config))

    def add_image(self, name: str, image: npt.NDArray[np.uint8], step: int = 0, **kwargs: Any) -> None:
        """Writes `(H, W, 3)` or `(H, W)`, uint8, as `vis_image/<name>_<step>.png`."""
        path = self.folder / self._images / f"{name}_{step}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(image)).save(path)

    def add_scalar(self, name: str, value: Any, step: int = 0, **kwargs: Any) -> None:
        """Appends a line with one scalar."""
        self._append(self._scalars, {name: _plain(value), "step": step})

    def add_scalars(
        self, scalar_dict: Mapping[str, Any], step: int = 0, file_path: str | None = None, **kwargs: Any
    ) -> None:
        """Appends a line with several scalars, and the same to `file_path`, a name inside the folder."""
        if file_path == self._scalars:
            raise ArgumentError("file_path must differ from the file of all scalars", found=file_path)
        line = {"step": step, **{name: _plain(value) for name, value in scalar_dict.items()}}
        line["step"] = line.pop("step")
        self._append(self._scalars, line)
        if file_path is not None:
            self._append(file_path, line)

    def _append(self, name: str, line: dict[str, Any]) -> None:
        # One write of a whole line: a run that is killed leaves no half line before a later one.
        data = (json.dumps(line) + "\n").encode()
        path = f"{self.folder}{os.sep}{name}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            written = os.write(descriptor, data)
            if written < len(data):  # the disk is full
                os.ftruncate(descriptor, os.fstat(descriptor).st_size - written)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        finally:
            os.close(descriptor)


def write_config(config: Any, path: str) -> None:
    """Writes a config as Python; one with objects in it, which no file can hold, is written for people to read."""
    try:
        config.dump(path)
    except ConfigError as error:
        _logger.warning("%s is written for reading only, since %s at %s", path, error.message, error.key)
        Path(path).write_text(config.pretty_text, encoding="utf-8")


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
