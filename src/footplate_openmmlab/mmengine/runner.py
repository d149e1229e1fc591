"""Functions and classes from `mmengine.runner`, and the strategies of `FlexibleRunner`.

Checkpoints are loaded without executing code in them, except by loaders that code bases register with
`CheckpointLoader.register_scheme`.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from torch import nn

from footplate.checkpoint import STRIP_WRAPPER, load_weights
from footplate.checkpoint import load_checkpoint as _read
from footplate.checkpoint import save_checkpoint as _save
from footplate.distributed import get_rank, is_model_wrapper, unwrap_model
from footplate.engine import Runner
from footplate.engine.control.process_setup import seed_everything
from footplate.models import trained_model
from footplate.models.activation_checkpointing import checkpoint_activations
from footplate_openmmlab.extension import refuse_unsupported

Loader = Callable[..., Any]
ReviseKeys = Sequence[tuple[str, str]]


class CheckpointLoader:
    """Loads checkpoints. Code bases may register additional loaders for address prefixes."""

    _schemes: ClassVar[dict[str, Loader]] = {}

    @classmethod
    def register_scheme(cls, prefixes: str | Sequence[str], loader: Loader | None = None, force: bool = False) -> Any:
        """Registers a loader for address prefixes. Without `loader`, returns a decorator.

        Args:
            prefixes: One or more prefixes, as regular expressions. The longest matching prefix is used.
            loader: A function `(filename, map_location) -> checkpoint`.
            force: Whether to replace a registered loader.

        Raises:
            KeyError: A prefix is already registered, and `force` is not set.
        """

        if loader is None:
            return partial(cls.register_scheme, prefixes, force=force)
        for prefix in [prefixes] if isinstance(prefixes, str) else prefixes:
            if prefix in cls._schemes and not force:
                raise KeyError(f"'{prefix}' is already registered. Pass force=True to replace it.")
            cls._schemes[prefix] = loader
        return loader

    @classmethod
    def load_checkpoint(cls, filename: str, map_location: Any = None, logger: Any = "current") -> Any:
        """Loads a checkpoint from a path or address.

        Args:
            filename: A path or address.
            map_location: The device for the tensors; the CPU by default.
            logger: Ignored; messages go to footplate's log.
        """
        for prefix in sorted(cls._schemes, key=len, reverse=True):
            if re.match(prefix, str(filename)):
                return cls._schemes[prefix](filename, map_location)
        return _read(filename, map_location or "cpu")


_load_checkpoint = CheckpointLoader.load_checkpoint


def _load_checkpoint_with_prefix(prefix: str, filename: str, map_location: Any = None) -> "OrderedDict[str, Any]":
    """Returns the checkpoint's weights whose keys start with `prefix`. Removes the prefix from the keys.

    Raises:
        AssertionError: No key has the prefix.
    """
    checkpoint = _load_checkpoint(filename, map_location)
    weights = checkpoint.get("state_dict", checkpoint)
    start = prefix if prefix.endswith(".") else f"{prefix}."
    found = OrderedDict((key[len(start) :], value) for key, value in weights.items() if key.startswith(start))
    if not found:
        raise AssertionError(f"No key in '{filename}' starts with '{start}'.")
    return found


def _load_checkpoint_to_model(
    model: nn.Module,
    checkpoint: Mapping[str, Any],
    strict: bool = False,
    logger: Any = None,
    revise_keys: ReviseKeys = STRIP_WRAPPER,
) -> Any:
    """Loads the weights of a checkpoint into a model and returns the checkpoint; see `load_checkpoint`."""
    load_weights(trained_model(model), checkpoint, strict=strict, revise_keys=revise_keys)
    return checkpoint


def load_state_dict(module: nn.Module, state_dict: Mapping[str, Any], strict: bool = False, logger: Any = None) -> None:
    """Loads a state dict into a module. Logs mismatches, or raises an error if `strict` is set. Ignores `logger`."""
    load_weights(trained_model(module), dict(state_dict), strict=strict)


def load_checkpoint(
    model: nn.Module,
    filename: str,
    map_location: Any = None,
    strict: bool = False,
    logger: Any = None,
    revise_keys: ReviseKeys = STRIP_WRAPPER,
) -> Any:
    """Loads the weights of a checkpoint file into a model and returns the checkpoint.

    Args:
        model: The model, wrapped or not.
        filename: The path or address.
        map_location: The device for the tensors; the CPU by default.
        strict: Whether to raise an error if keys or shapes do not match.
        logger: Ignored; mismatches are reported in footplate's log.
        revise_keys: Pairs `(regular expression, replacement)` that are applied to the keys.
    """
    checkpoint = _load_checkpoint(filename, map_location)
    load_weights(trained_model(model), checkpoint, strict=strict, revise_keys=revise_keys, name=str(filename))
    return checkpoint


def save_checkpoint(
    checkpoint: Mapping[str, Any],
    filename: str,
    file_client_args: Mapping[str, Any] | None = None,
    backend_args: Mapping[str, Any] | None = None,
) -> None:
    """Saves a checkpoint atomically to any storage that fsspec supports, or with a backend of `mmengine.fileio`.

    Args:
        checkpoint: The contents.
        filename: The path.
        file_client_args: The arguments for MMEngine's `FileClient`.
        backend_args: The arguments for MMEngine's `get_file_backend`.
    """
    if not (file_client_args or backend_args):
        _save(dict(checkpoint), filename)
        return
    fileio = import_module("mmengine.fileio")
    if file_client_args:
        backend = fileio.FileClient.infer_client(file_client_args, filename)
    else:
        backend = fileio.get_file_backend(filename, backend_args=backend_args)
    with TemporaryDirectory(prefix="footplate-") as folder:
        file = Path(folder, "checkpoint.pth")
        _save(dict(checkpoint), file)
        backend.put(file.read_bytes(), filename)


def set_random_seed(seed: int | None = None, deterministic: bool = False, diff_rank_seed: bool = False) -> int:
    """Seeds Python, NumPy and PyTorch. Returns the seed of this process.

    Args:
        seed: The seed; by default, a random seed that is the same on all processes.
        deterministic: Whether to use only deterministic algorithms.
        diff_rank_seed: Whether to add the rank to the seed.
    """
    # Callers may pass truthy values such as 1, but footplate requires booleans.
    flags = {"deterministic": bool(deterministic), "diff_rank_seed": bool(diff_rank_seed)}
    shared = seed_everything({"seed": seed, **flags})
    return shared + get_rank() if diff_rank_seed else shared


def calc_dynamic_intervals(
    start_interval: int, dynamic_interval_list: list[tuple[int, int]] | None = None
) -> tuple[list[int], list[int]]:
    """Returns two lists: the milestones, starting with 0, and the interval that takes effect at each milestone."""
    pairs = [(0, start_interval), *(dynamic_interval_list or [])]
    return [start for start, _ in pairs], [interval for _, interval in pairs]


def get_state_dict(
    module: nn.Module, destination: Any = None, prefix: str = "", keep_vars: bool = False
) -> dict[str, Any]:
    """Returns the state dict of a module without the prefixes of wrappers, including those of its submodules.

    If `destination` is set, updates and returns that dict.
    """
    module = unwrap_model(module)
    state: dict[str, Any] = module.state_dict(destination=destination, prefix=prefix, keep_vars=keep_vars)
    for name, submodule in reversed(list(module.named_modules())):
        if name and is_model_wrapper(submodule):
            wrapped = f"{prefix}{name}.module."
            for key in [key for key in state if key.startswith(wrapped)]:
                state[f"{prefix}{name}.{key.removeprefix(wrapped)}"] = state.pop(key)
    return state


def turn_on_activation_checkpointing(model: nn.Module, modules: str | Sequence[str]) -> None:
    """Makes submodules recompute their activations in the backward pass; see `checkpoint_activations`.

    Args:
        model: The model.
        modules: One or more submodule names.

    Raises:
        ArgumentError: A submodule does not exist, or its `forward` cannot be replaced.
    """
    names = [modules] if isinstance(modules, str) else modules
    checkpoint_activations(model, [re.escape(name) for name in names])


class Strategy:
    """Base class of the stand-ins for MMEngine's strategies. Creating one raises an error.

    Raises:
        ConfigError: The message suggests an alternative.
    """

    def __init__(self, **settings: Any) -> None:
        refuse_unsupported({"strategy": f"{type(self).__name__}(...)"})


BaseStrategy, ColossalAIStrategy, DDPStrategy, DeepSpeedStrategy, FSDPStrategy, SingleDeviceStrategy = (
    type(f"{name}Strategy", (Strategy,), {"__module__": __name__})
    for name in ("Base", "ColossalAI", "DDP", "DeepSpeed", "FSDP", "SingleDevice")
)


class FlexibleRunner(Runner):
    """A runner that accepts the name or the config dict of a default strategy, which changes nothing."""

    def __init__(self, model: Any, *, work_dir: str = "work_dirs", strategy: Any = None, **arguments: Any) -> None:
        refuse_unsupported({"strategy": strategy})
        super().__init__(model, work_dir=work_dir, **arguments)
