"""Functions of mmcv that first-generation code imports: building, checkpoints, images, precision, processes."""

import functools
import io
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn

from footplate.checkpoint import load_weights
from footplate.checkpoint import save_checkpoint as _save_checkpoint
from footplate.checks import check_choice
from footplate.distributed import initialize, unwrap_model
from footplate.errors import BuildError
from footplate.first_generation.adapters.model import map_nested
from footplate.optim import build_optimizer as _build_optimizer
from footplate.records import add_log_file
from footplate.records import get_logger as _get_logger
from footplate.registry import DATASETS, OPTIMIZER_BUILDERS, OPTIMIZERS, Registry
from footplate.storage import read_bytes


def build_from_cfg(cfg: Mapping[str, Any], registry: Registry, default_args: Mapping[str, Any] | None = None) -> Any:
    """Builds an object from its config.

    Args:
        cfg: A dict with `type`, a name or class, and the arguments of the constructor.
        registry: The registry for names.
        default_args: Default values of the arguments.

    Raises:
        BuildError: `registry` is not a Registry, or an argument is invalid.
    """
    if not isinstance(registry, Registry):
        raise BuildError("the argument 'registry' of build_from_cfg must be a Registry", found=registry)
    if registry is OPTIMIZERS:
        settings = {**(default_args or {}), **cfg}
        return _build_optimizer(settings, settings.pop("params"))
    return registry.build_entry(cfg, default_args=default_args)


def build_optimizer_constructor(cfg: Mapping[str, Any]) -> Any:
    """Builds an optimizer constructor from its config."""
    return build_from_cfg(cfg, OPTIMIZER_BUILDERS)


def build_optimizer(model: nn.Module, cfg: Mapping[str, Any]) -> Any:
    """Builds an optimizer for the parameters of a model, with the `constructor` of the config."""
    settings = dict(cfg)
    kind = settings.pop("constructor", "DefaultOptimizerConstructor")
    paramwise_cfg = settings.pop("paramwise_cfg", None)
    build = build_optimizer_constructor({"type": kind, "optimizer_cfg": settings, "paramwise_cfg": paramwise_cfg})
    built = build(unwrap_model(model))
    return getattr(built, "optimizer", built)


def obj_from_dict(info: Mapping[str, Any], parent: Any = None, default_args: Mapping[str, Any] | None = None) -> Any:
    """Builds an object whose `type` is a class, or the name of a class in the module `parent`."""
    settings = {**(default_args or {}), **info}
    kind = settings.pop("type")
    if isinstance(kind, str):
        if parent is None or not hasattr(parent, kind):
            raise BuildError(f"there is no '{kind}' in {getattr(parent, '__name__', parent)}")
        kind = getattr(parent, kind)
    return kind(**settings)


def build_dataset(cfg: Any, default_args: Mapping[str, Any] | None = None) -> Any:
    """Builds a dataset. A list of configs becomes a ConcatDataset."""
    if isinstance(cfg, (list, tuple)):
        return DATASETS.build({"type": "ConcatDataset", "datasets": list(cfg)})
    return build_from_cfg(cfg, DATASETS, default_args)


def load_state_dict(module: nn.Module, state_dict: Mapping[str, Any], strict: bool = False, logger: Any = None) -> None:
    """Loads a state dict into a module and logs mismatches."""
    load_weights(unwrap_model(module), dict(state_dict), strict=strict)


def save_checkpoint(
    model: nn.Module, filename: str, optimizer: Any = None, meta: Mapping[str, Any] | None = None
) -> None:
    """Saves the weights of a model and the state of its optimizer, or of each optimizer in a dict."""
    checkpoint: dict[str, Any] = {"meta": dict(meta or {}), "state_dict": unwrap_model(model).state_dict()}
    if isinstance(optimizer, Mapping):
        checkpoint["optimizer"] = {name: each.state_dict() for name, each in optimizer.items()}
    elif optimizer is not None:
        checkpoint["optimizer"] = optimizer.state_dict()
    _save_checkpoint(checkpoint, filename)


def imfrombytes(
    content: bytes, flag: str = "color", channel_order: str = "bgr", backend: str | None = None
) -> npt.NDArray[np.uint8]:
    """Decodes an image to a uint8 array of shape `(H, W, 3)`, `(H, W, 4)` or `(H, W)`.

    Args:
        content: The encoded image.
        flag: "color", "grayscale", or "unchanged" to keep the channels of the file, with colors in BGR order.
        channel_order: "bgr" or "rgb"; used only if `flag` is "color".
        backend: The mmcv backend whose behavior to reproduce, by default "cv2". Images are always decoded with Pillow.
            Palette images, such as label maps, are converted to colors, unless `backend` is "pillow" and `flag` is
            "unchanged".

    Raises:
        ArgumentError: The flag, the channel order or the backend is unknown.
    """
    check_choice("flag", flag, ("color", "grayscale", "unchanged"))
    check_choice("channel_order", channel_order, ("bgr", "rgb"))
    check_choice("backend", backend or "cv2", ("cv2", "pillow", "turbojpeg", "tifffile"))
    image = Image.open(io.BytesIO(content))
    if flag == "unchanged":
        pixels = np.asarray(image.convert("RGB") if image.mode == "P" and backend != "pillow" else image)
        has_colors = pixels.ndim == 3 and pixels.shape[2] >= 3
        return np.concatenate([pixels[..., 2::-1], pixels[..., 3:]], axis=2) if has_colors else pixels
    if flag == "grayscale":
        return np.asarray(image.convert("L"))
    pixels = np.asarray(image.convert("RGB"))
    return np.ascontiguousarray(pixels[..., ::-1]) if channel_order == "bgr" else pixels


def imread(
    path: str | Path | npt.NDArray[np.uint8],
    flag: str = "color",
    channel_order: str = "bgr",
    backend: str | None = None,
    file_client_args: Any = None,
) -> npt.NDArray[np.uint8]:
    """Reads an image file as `imfrombytes` does. An array is returned unchanged."""
    if isinstance(path, np.ndarray):
        return path
    return imfrombytes(read_bytes(str(path)), flag, channel_order, backend)


def mkdir_or_exist(dir_name: str | Path, mode: int = 0o777) -> None:
    """Creates a folder and its parents."""
    Path(dir_name).expanduser().mkdir(mode=mode, parents=True, exist_ok=True)


_Function = TypeVar("_Function", bound=Callable[..., Any])


def auto_fp16(*args: Any, **kwargs: Any) -> Callable[[_Function], _Function]:
    """Returns a decorator that has no effect, because AmpOptimWrapper already enables mixed precision."""
    return lambda function: function


def force_fp32(*args: Any, **kwargs: Any) -> Callable[[_Function], Callable[..., Any]]:
    """Returns a decorator that disables mixed precision for a method and casts its arguments to float32."""

    def decorate(function: _Function) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*inputs: Any, **named: Any) -> Any:
            device = next((each.device.type for each in inputs if isinstance(each, torch.Tensor)), "cpu")
            if not torch.is_autocast_enabled(device):
                return function(*inputs, **named)
            with torch.autocast(device, enabled=False):
                return function(*map(_to_float32, inputs), **{name: _to_float32(each) for name, each in named.items()})

        return call

    return decorate


def wrap_fp16_model(model: torch.nn.Module) -> None:
    """Does nothing, because AmpOptimWrapper keeps the weights in float32 and uses autocast."""


def _to_float32(data: Any) -> Any:
    return map_nested(data, torch.Tensor, lambda value: value.float() if value.is_floating_point() else value)


def is_seq_of(seq: Any, expected_type: Any, seq_type: type | None = None) -> bool:
    """Checks whether `seq` is a sequence, or a `seq_type`, in which every item is an `expected_type`."""
    container: type[Any] = seq_type or Sequence
    return isinstance(seq, container) and all(isinstance(item, expected_type) for item in seq)


is_list_of = functools.partial(is_seq_of, seq_type=list)
is_tuple_of = functools.partial(is_seq_of, seq_type=tuple)


def is_str(value: Any) -> bool:
    """Checks whether `value` is a string."""
    return isinstance(value, str)


def init_dist(launcher: str, backend: str | None = None, **options: Any) -> None:
    """Initializes the process group. Of `options`, only `timeout` and `port` have an effect."""
    known = {key: value for key, value in options.items() if key in ("timeout", "port")}
    initialize(launcher, {**({} if backend is None else {"backend": backend}), **known} or None)


def get_logger(
    name: str, log_file: str | None = None, log_level: int = logging.INFO, file_mode: str = "w"
) -> logging.Logger:
    """Returns a child of footplate's logger that writes to the same outputs.

    Args:
        name: The name of the child. If it is empty, footplate's logger itself is returned.
        log_file: An additional file to write to.
        log_level: The log level.
        file_mode: The mode in which the file is opened.
    """
    logger = _get_logger(f"footplate.{name}".rstrip("."))
    # First-generation code often requests the same logger several times.
    known = [each.baseFilename for each in logger.handlers if isinstance(each, logging.FileHandler)]
    if log_file is not None and os.path.abspath(log_file) not in known:
        add_log_file(logger, log_file, file_mode)
    logger.setLevel(log_level)
    return logger


def get_root_logger(log_file: str | None = None, log_level: int = logging.INFO) -> logging.Logger:
    """Returns footplate's logger; see get_logger for the arguments."""
    return get_logger("", log_file, log_level)
