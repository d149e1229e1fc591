"""Functions of mmcv 1.x that exist neither in mmcv 2 nor in MMEngine."""

import functools
import getpass
import inspect
import logging
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from rich.progress import track
from torch import Tensor, nn
from torch.utils.data import DataLoader

from footplate import hooks
from footplate.checkpoint import save_checkpoint as _save_checkpoint
from footplate.distributed import get_rank, rank_from_environment, unwrap_model
from footplate.records import add_log_file, set_level
from footplate.records import get_logger as _get_logger
from footplate.registry import DATASETS, OPTIMIZER_BUILDERS
from footplate_openmmlab.first_generation.adapters.model import apply_to, scatter
from footplate_openmmlab.first_generation.adapters.warm_up_ema import EMAHook
from footplate_openmmlab.mmengine.dist import allreduce_params, collect_results
from footplate_openmmlab.mmengine.registry import build_from_cfg as _build_from_cfg
from footplate_openmmlab.mmengine.runner import CheckpointLoader, get_state_dict
from footplate_openmmlab.mmengine.runner import set_random_seed as _seed
from footplate_openmmlab.skipped_imports import unsupported

IS_IPU_AVAILABLE = False
IS_MLU_AVAILABLE = hasattr(torch, "mlu")
logger_initialized: dict[str, bool] = {}


def build_from_cfg(cfg: Any, registry: Any, default_args: Any = None) -> Any:
    """Calls MMEngine's `build_from_cfg`, but builds mmcv's EMAHook instead of MMEngine's hook of that name."""
    if isinstance(cfg, Mapping) and cfg.get("type") == "EMAHook" and registry.get("EMAHook") is hooks.EMAHook:
        cfg = {**cfg, "type": EMAHook}  # unless a code base has registered its own
    return _build_from_cfg(cfg, registry, default_args)


TORCH_OPTIMIZERS = [name for name, kind in vars(torch.optim).items() if inspect.isclass(kind)]
"""The names of the optimizers in torch."""
build_optimizer_constructor = functools.partial(build_from_cfg, registry=OPTIMIZER_BUILDERS)
"""Builds an optimizer constructor from its config."""


def build_optimizer(model: nn.Module, cfg: Mapping[str, Any]) -> Any:
    """Builds an optimizer for a model's parameters, using the config's `constructor`."""
    settings = dict(cfg)
    kind = settings.pop("constructor", "DefaultOptimizerConstructor")
    paramwise_cfg = settings.pop("paramwise_cfg", None)
    build = build_optimizer_constructor({"type": kind, "optimizer_cfg": settings, "paramwise_cfg": paramwise_cfg})
    built = build(unwrap_model(model))
    return getattr(built, "optimizer", built)


def obj_from_dict(info: Mapping[str, Any], parent: Any = None, default_args: Mapping[str, Any] | None = None) -> Any:
    """Builds an object from a dict whose `type` is a class, or the name of a class in the module `parent`."""
    settings = {**(default_args or {}), **info}
    kind = settings.pop("type")
    return (getattr(parent, kind) if isinstance(kind, str) else kind)(**settings)


def build_dataset(cfg: Any, default_args: Mapping[str, Any] | None = None) -> Any:
    """Builds a dataset from its config, or a ConcatDataset from a list of configs."""
    if isinstance(cfg, (list, tuple)):
        return DATASETS.build({"type": "ConcatDataset", "datasets": list(cfg)})
    return build_from_cfg(cfg, DATASETS, default_args)


def save_checkpoint(
    model: nn.Module,
    filename: str,
    optimizer: Any = None,
    meta: Mapping[str, Any] | None = None,
    file_client_args: Any = None,
) -> None:
    """Saves a model's weights and, if `optimizer` is set, the state of the optimizer or of a dict of optimizers.

    `meta` is saved with the time and the model's `CLASSES`. Ignores `file_client_args`; the path selects the storage.
    """
    module = unwrap_model(model)
    labels = {"CLASSES": module.CLASSES} if getattr(module, "CLASSES", None) is not None else {}
    known = {"time": get_time_str(), **labels, **(meta or {})}
    checkpoint: dict[str, Any] = {"meta": known, "state_dict": get_state_dict(module)}
    if isinstance(optimizer, Mapping):
        checkpoint["optimizer"] = {name: each.state_dict() for name, each in optimizer.items()}
    elif optimizer is not None:
        checkpoint["optimizer"] = optimizer.state_dict()
    _save_checkpoint(checkpoint, filename)


_Function = TypeVar("_Function", bound=Callable[..., Any])


def auto_fp16(
    apply_to: Sequence[str] | None = None, out_fp32: bool = False, supported_types: Any = nn.Module
) -> Callable[[_Function], _Function]:
    """Returns a decorator that makes a module's method run in float16 if the attribute `fp16_enabled` is True.

    In a run, it is usually False, because AmpOptimWrapper already enables mixed precision.

    Args:
        apply_to: The names of the arguments to convert, or None for all arguments.
        out_fp32: Whether to convert the result to float32.
        supported_types: The possible types of the method's object.
    """
    return _in_precision(torch.float16, torch.float32 if out_fp32 else None, apply_to, supported_types)


def force_fp32(
    apply_to: Sequence[str] | None = None, out_fp16: bool = False, supported_types: Any = nn.Module
) -> Callable[[_Function], _Function]:
    """Returns a decorator that makes a module's method run in float32 if autocast or `fp16_enabled` would change that.

    The arguments are those of `auto_fp16`.
    """
    return _in_precision(torch.float32, torch.float16 if out_fp16 else None, apply_to, supported_types)


def _in_precision(
    dtype: torch.dtype, result_dtype: torch.dtype | None, names: Sequence[str] | None, kinds: Any
) -> Callable[[_Function], _Function]:
    convert = functools.partial(_convert, to=dtype)

    def decorate(function: Any) -> Any:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def call(owner: Any, *args: Any, **kwargs: Any) -> Any:
            if not isinstance(owner, kinds):
                raise TypeError(f"{function.__qualname__} must be a method of {kinds}, not of {type(owner).__name__}")
            device = next(filter(torch.is_autocast_enabled, (_accelerator(), "cpu")), None)
            if not (getattr(owner, "fp16_enabled", False) or device is not None and dtype == torch.float32):
                return function(owner, *args, **kwargs)
            given = signature.bind(owner, *args, **kwargs)
            chosen = list(given.arguments)[1:] if names is None else names
            given.arguments |= {name: convert(given.arguments[name]) for name in chosen if name in given.arguments}
            with torch.autocast(device or _accelerator(), torch.float16, enabled=dtype == torch.float16):
                result = function(*given.args, **given.kwargs)
            return result if result_dtype is None else _convert(result, result_dtype)

        return call

    return decorate


def _convert(data: Any, to: torch.dtype) -> Any:
    return apply_to(
        data, lambda value: torch.is_tensor(value) and value.is_floating_point(), lambda value: value.to(to)
    )


@functools.cache
def _accelerator() -> str:
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return device.type if device is not None else "cpu"


def wrap_fp16_model(model: torch.nn.Module) -> None:
    """Does nothing, because AmpOptimWrapper keeps the weights in float32 and uses autocast."""


def jit(func: Any = None, **options: Any) -> Any:
    """Returns the function unchanged, or a decorator that returns it unchanged. (mmcv's `jit` only affects Parrots.)"""
    return func if func is not None else lambda function: function


def get_logger(
    name: str, log_file: str | None = None, log_level: int = logging.INFO, file_mode: str = "w"
) -> logging.Logger:
    """Returns a child of footplate's logger that writes to the same outputs. Adds its name to `logger_initialized`.

    On rank 0, messages also appear on the screen, even if no run has been built yet.

    Args:
        name: The name of the child. If empty, footplate's logger itself is returned.
        log_file: An additional log file for all of footplate's loggers, so it also contains the training log.
        log_level: The log level.
        file_mode: The mode for opening the file.
    """
    logger = _get_logger(f"footplate.{name}".rstrip("."))
    logger_initialized[logger.name] = True
    if rank_from_environment() == 0:
        set_level(_get_logger().level)  # adds the screen to footplate's logger
    # First-generation code often requests the same logger several times. The file is a handler of footplate's logger,
    # so that it also contains the log of the training.
    known = [each.baseFilename for each in _get_logger().handlers if isinstance(each, logging.FileHandler)]
    if log_file is not None and os.path.abspath(log_file) not in known:
        add_log_file(_get_logger(), log_file, file_mode)
    logger.setLevel(log_level)
    return logger


get_root_logger = functools.partial(get_logger, "")
"""Returns footplate's logger. Takes the arguments of `get_logger` except `name`."""


def get_host_info() -> str:
    """Returns the user name and host name as `user@host`."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container may run as a user without a name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


def get_time_str() -> str:
    """Returns the local time in the format `20261122_010203`."""
    return time.strftime("%Y%m%d_%H%M%S")


def set_random_seed(seed: int, deterministic: bool = False, use_rank_shift: bool = False) -> None:
    """Seeds Python, NumPy and PyTorch.

    Args:
        seed: The seed.
        deterministic: Whether to restrict cuDNN to deterministic algorithms.
        use_rank_shift: Whether to add the rank to the seed.
    """
    os.environ["PYTHONHASHSEED"] = str(_seed(seed, diff_rank_seed=use_rank_shift))
    if deterministic:
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False


def allreduce_grads(params: Iterable[Tensor], coalesce: bool = True, bucket_size_mb: int = -1) -> None:
    """Averages the gradients of parameters over all processes, in place. Ignores `coalesce` and `bucket_size_mb`."""
    allreduce_params([each.grad for each in params if each.requires_grad and each.grad is not None])


def cast_tensor_type(inputs: Any, src_type: torch.dtype, dst_type: torch.dtype) -> Any:
    """Returns nested data with all tensors of type `src_type` converted to `dst_type`."""
    return apply_to(
        inputs, lambda data: torch.is_tensor(data) and data.dtype == src_type, lambda data: data.to(dst_type)
    )


def load_from_local(filename: str, map_location: Any) -> Any:
    """Loads a checkpoint from a path, which may begin with `~`."""
    return CheckpointLoader.load_checkpoint(os.path.expanduser(filename), map_location)


def scatter_kwargs(inputs: Any, kwargs: Any, target_gpus: Sequence[Any] = (-1,), dim: int = 0) -> tuple[Any, Any]:
    """Unpacks the data containers in call arguments.

    Returns:
        The positional arguments and the keyword arguments for this process, each in a one-element tuple.
    """
    return scatter(tuple(inputs), target_gpus), scatter(dict(kwargs), target_gpus)


def get_input_device(input: Any) -> int:
    """Returns the index of the device of the tensors in a tensor or a list, or -1 for the CPU."""
    tensors = _tensors_in(input)
    return next((each.get_device() for each in tensors if not each.is_cpu), -1)


def scatter_tensors(input: Any, devices: Sequence[int], streams: Any = None) -> Any:
    """Returns a tensor or a list of tensors on the first of `devices`; -1 means the CPU. Ignores `streams`."""
    _tensors_in(input)
    device = torch.device("cpu") if devices[0] < 0 else torch.device("cuda", devices[0])
    return apply_to(input, torch.is_tensor, lambda data: data.to(device))


class Scatter:
    """Moves tensors to a device, as `mmcv.parallel._functions.Scatter` does for one device."""

    @staticmethod
    def forward(target_gpus: Sequence[int], input: Any) -> tuple[Any, ...]:
        """Returns a tuple of the tensor or of the elements of the list, on the first of `target_gpus`."""
        moved = scatter_tensors(input, target_gpus)
        return tuple(moved) if isinstance(moved, list) else (moved,)


def _tensors_in(data: Any) -> list[Tensor]:
    """Returns the tensors in a tensor or nested lists. Raises TypeError if there is anything else."""
    if isinstance(data, list):
        return [tensor for each in data for tensor in _tensors_in(each)]
    if isinstance(data, Tensor):
        return [data]
    raise TypeError(f"expected a tensor or a list of tensors, found {type(data).__name__}")


@functools.cache
def _get_stream(device: Any) -> Any:
    """Returns a new stream for copying to a device, or None for the CPU. `device` may be an index; -1 means the CPU."""
    if isinstance(device, int):
        device = torch.device("cpu") if device < 0 else torch.device("cuda", device)
    return None if device.type == "cpu" else torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _get_cuda_home() -> str | None:
    from torch.utils.cpp_extension import CUDA_HOME  # imports setuptools

    return CUDA_HOME


def _get_dataloader() -> tuple[type, type]:
    return DataLoader, DataLoader


class IterLoader:
    """Iterates over a dataloader endlessly and counts the epochs.

    Args:
        dataloader: The dataloader.

    Attributes:
        epoch: The number of completed passes over the data.
    """

    def __init__(self, dataloader: Any) -> None:
        self._dataloader = dataloader
        self._iterator: Iterator[Any] = iter(dataloader)
        self.epoch = 0

    def __next__(self) -> Any:
        try:
            return next(self._iterator)
        except StopIteration:
            self.epoch += 1
        if hasattr(self._dataloader.sampler, "set_epoch"):
            self._dataloader.sampler.set_epoch(self.epoch)
        self._iterator = iter(self._dataloader)
        return next(self._iterator)

    def __len__(self) -> int:
        return len(self._dataloader)


def single_gpu_test(model: nn.Module, data_loader: Any) -> list[Any]:
    """Runs a model on all batches of a dataloader and returns the predictions.

    Args:
        model: The model, which is switched to evaluation mode and called as `model(return_loss=False, **batch)`.
        data_loader: The dataloader.
    """
    model.eval()
    results: list[Any] = []
    with torch.no_grad():
        for batch in track(data_loader, "Test") if get_rank() == 0 else data_loader:
            results.extend(model(return_loss=False, **batch))
    return results


def multi_gpu_test(
    model: nn.Module, data_loader: Any, tmpdir: str | None = None, gpu_collect: bool = False
) -> list[Any] | None:
    """Runs the model in each process and gathers the predictions on rank 0, in dataset order.

    Returns None on other ranks.

    Args:
        model: See `single_gpu_test`.
        data_loader: The dataloader of this process.
        tmpdir: Ignored; results are exchanged directly instead of through files.
        gpu_collect: Ignored; results are gathered in host memory.
    """
    return collect_results(single_gpu_test(model, data_loader), len(data_loader.dataset))


IPUDataLoader, IPUFp16OptimizerHook, cfg2options, ipu_model_wrapper = (
    unsupported(name, __name__, "it needs an IPU; train on another device")
    for name in ("IPUDataLoader", "IPUFp16OptimizerHook", "cfg2options", "ipu_model_wrapper")
)
LossScaler = unsupported("LossScaler", __name__, "use torch.amp.GradScaler")
load_from_pavi = unsupported("load_from_pavi", __name__, "download the file, and pass its path")
register_extra_symbolics = unsupported("register_extra_symbolics", __name__, "export with `footplate export --to onnx`")
