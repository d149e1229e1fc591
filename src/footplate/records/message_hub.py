"""Collects the scalars and runtime info that the components of a run record."""

import logging
from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar

import numpy as np
from torch import Tensor
from typing_extensions import Self

from footplate.errors import ArgumentError
from footplate.records.history_buffer import HistoryBuffer
from footplate.weighted import Sum, Weighted, refuse_pair

_logger = logging.getLogger("footplate.records")
RENAMED_SUFFIX = "_of_model"
RESERVED_NAMES = frozenset(
    {"lr", "base_lr", "time", "data_time", "grad_norm", "memory", "eta", "iter", "epoch", "step", "mode", "at"}
)


class Instances:
    """Base class for classes whose instances are globally accessible by name. The latest instance is the current one.

    Args:
        name: The name of this instance.
    """

    _instance_dict: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # Each direct subclass has its own table, which its subclasses share.
        if Instances in cls.__bases__:
            cls._instance_dict = {}

    def __init__(self, name: str = "") -> None:
        self.instance_name = name

    @classmethod
    def get_instance(cls, name: str, **kwargs: Any) -> Self:
        """Returns the instance named `name`. Creates it with `kwargs` if it does not exist."""
        if name not in cls._instance_dict:
            cls._instance_dict[name] = cls(name=name, **kwargs)
        return cls._instance_dict[name]  # type: ignore[no-any-return]

    @classmethod
    def get_current_instance(cls) -> Self:
        """Returns the latest instance. If no instance exists, creates one named "mmengine", as MMEngine does."""
        if not cls._instance_dict:
            return cls.get_instance("mmengine")
        return next(reversed(cls._instance_dict.values()))  # type: ignore[no-any-return]

    @classmethod
    def check_instance_created(cls, name: str) -> bool:
        """Checks whether an instance named `name` exists. Kept from MMEngine."""
        return name in cls._instance_dict

    @classmethod
    def keep_instance(cls, instance: Any) -> None:
        """Makes `instance` the current instance, and replaces any instance with the same name."""
        cls._instance_dict.pop(instance.instance_name, None)
        cls._instance_dict[instance.instance_name] = instance


class MessageHub(Instances):
    """Stores a buffer with the history of each scalar, and the latest runtime info.

    Scalar keys start with the phase, as in `"train/loss"` and `"val/mIoU"`. Code that records a value in every
    iteration should call `scalar(key)` once and append to the result. Checkpoints omit keys recorded with
    `resumed=False`, and runtime info that is not plain data.

    Args:
        name: The name of the hub. A run's hub is named after the experiment.
        log_scalars: The initial buffers, keyed by the names of the scalars.
        runtime_info: The initial runtime info.
        resumed_keys: Maps each key to whether checkpoints include it. The default for a key is True.
    """

    def __init__(
        self,
        name: str = "footplate",
        log_scalars: Mapping[str, HistoryBuffer] | None = None,
        runtime_info: Mapping[str, Any] | None = None,
        resumed_keys: Mapping[str, bool] | None = None,
    ) -> None:
        super().__init__(name)
        self.log_scalars: dict[str, HistoryBuffer] = dict(log_scalars or {})
        """The buffers, keyed by the names of the scalars."""
        self.runtime_info: dict[str, Any] = dict(runtime_info or {})
        """The entries of the runtime info, keyed by name."""
        self._not_resumed = {key for key, is_resumed in (resumed_keys or {}).items() if not is_resumed}

    def scalar(self, key: str) -> HistoryBuffer:
        """Returns the buffer of the scalar `key`, which is created if it does not exist."""
        if key not in self.log_scalars:
            self.log_scalars[key] = HistoryBuffer()
        return self.log_scalars[key]

    def scalars_of(self, mode: str) -> dict[str, HistoryBuffer]:
        """Returns the buffers of a phase, "train", "val" or "test", keyed by name without the phase."""
        prefix = f"{mode}/"
        return {key.removeprefix(prefix): scalar for key, scalar in self.log_scalars.items() if key.startswith(prefix)}

    def update_scalar(self, key: str, value: Any, count: float = 1, resumed: bool = True) -> None:
        """Records one value of a scalar.

        Args:
            key: The key, such as `"train/loss"`.
            value: A number, or a tensor or array with one element. Tensors remain on their device. If it is `Weighted`
                or a `Sum`, the scalar's means are weighted, or its values are summed.
            count: The number of items, if `value` is a sum over several items.
            resumed: Whether checkpoints include the scalar.

        Raises:
            ArgumentError: The value has more than one element, or is not a number.
        """
        reduction = ""
        if isinstance(value, Weighted):
            reduction, (value, count) = "weighted", value
        elif isinstance(value, Sum):
            reduction, (value,) = "sum", value
        if isinstance(value, Tensor) and value.numel() == 1:
            value = value.detach().reshape(())
        elif isinstance(value, (int, float, np.number, np.ndarray)) and np.size(value) == 1:
            value = float(np.asarray(value).reshape(()))
        else:
            refuse_pair(value, f"the value of '{key}'")
            raise ArgumentError(f"the scalar '{key}' must be a single number", found=value)
        if not resumed:
            self._not_resumed.add(key)
        scalar = self.scalar(key)
        scalar.reduction = reduction or scalar.reduction
        scalar.update(value, count)

    def update_scalars(self, log_dict: Mapping[str, Any], resumed: bool = True) -> None:
        """Records several values, each a number or `dict(value=..., count=...)`; see `update_scalar`."""
        for key, value in log_dict.items():
            if isinstance(value, Mapping):
                self.update_scalar(key, value["value"], value.get("count", 1), resumed)
            else:
                self.update_scalar(key, value, resumed=resumed)

    def update_info(self, key: str, value: Any, resumed: bool = True) -> None:
        """Sets an entry of the runtime info, such as a path. With `resumed=False`, checkpoints omit the entry."""
        if not resumed:
            self._not_resumed.add(key)
        self.runtime_info[key] = value

    def update_info_dict(self, info_dict: Mapping[str, Any], resumed: bool = True) -> None:
        """Sets several entries of `runtime_info`; see `update_info`."""
        for key, value in info_dict.items():
            self.update_info(key, value, resumed)

    def get_scalar(self, key: str) -> HistoryBuffer:
        """Returns the buffer of the scalar `key`. Raises a KeyError if the scalar has not been recorded."""
        return self.log_scalars[key]

    def get_info(self, key: str, default: Any = None) -> Any:
        """Returns the runtime info entry `key`, or `default` if the entry does not exist."""
        return self.runtime_info.get(key, default)

    def pop_info(self, key: str, default: Any = None) -> Any:
        """Removes the runtime info entry `key` and returns its value, or `default` if it does not exist."""
        return self.runtime_info.pop(key, default)

    def state_dict(self) -> dict[str, Any]:
        """Returns the scalars and the runtime info to save in checkpoints.

        Omits keys that were recorded with `resumed=False`, and values that cannot be loaded without executing code.
        """
        skipped = self._not_resumed
        return {
            "log_scalars": {k: v.state_dict() for k, v in self.log_scalars.items() if k not in skipped},
            "runtime_info": {k: v for k, v in self.runtime_info.items() if k not in skipped and _is_plain(v)},
        }

    def load_state_dict(self, state_dict: "Mapping[str, Any] | MessageHub") -> None:
        """Restores the state that `state_dict` returned, or the content of another hub.

        Updates existing buffers in place, so that references to them remain valid.
        """
        state = state_dict.state_dict() if isinstance(state_dict, MessageHub) else state_dict
        for key, saved in state.get("log_scalars", {}).items():
            if isinstance(saved, Mapping):  # not in a checkpoint of another engine
                self.scalar(key).load_state_dict(dict(saved))
        # Infos saved by another engine may contain `OpaqueObject` placeholders.
        self.runtime_info.update({k: v for k, v in state.get("runtime_info", {}).items() if _is_plain(v)})


def _is_plain(value: Any) -> bool:
    """Checks whether a value can be saved and restored without executing code."""
    if isinstance(value, Mapping):
        return all(isinstance(k, (str, int)) and _is_plain(v) for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str, Tensor))


@cache  # warns once for each name
def recorded_name(name: str, further: frozenset[str] = frozenset()) -> str:
    """Returns the name to record a loss or metric under: `name`, or `<name>_of_model` if it is reserved.

    `further` contains additional reserved names in this run.
    """
    if name not in RESERVED_NAMES | further:
        return name
    message = "The name '%s' is reserved in the log, so the value is recorded as '%s'. Use a different name."
    _logger.warning(message, name, name + RENAMED_SUFFIX)
    return name + RENAMED_SUFFIX
