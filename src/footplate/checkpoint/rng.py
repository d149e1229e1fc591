"""The state of every random generator of this process, as tensors and numbers."""

import logging
import random
from typing import Any

import numpy as np
import torch

_logger = logging.getLogger("footplate.checkpoint")


def capture_rng() -> dict[str, Any]:
    """Returns the state of the generators of Python, numpy, torch's CPU and every accelerator.

    Only tensors, numbers and strings are in it, so that it reads back weights-only.
    """
    version, words, spare = random.getstate()
    name, keys, position, has_spare, normal = np.random.get_state(legacy=True)
    return {
        "python": {"version": version, "words": torch.tensor(words, dtype=torch.int64), "spare": spare},
        "numpy": {
            "name": str(name),
            "keys": torch.from_numpy(np.asarray(keys, dtype=np.int64)),
            "position": int(position),
            "has_spare": int(has_spare),
            "spare": float(normal),
        },
        "torch": torch.get_rng_state(),
        "devices": _capture_devices(),
    }


def restore_rng(state: dict[str, Any]) -> None:
    """Puts every generator into the state that `capture_rng` saw.

    Devices that are not there now are passed over, with a warning.

    Raises:
        KeyError: A generator is missing in the state.
    """
    python, numpy_state = state["python"], state["numpy"]
    random.setstate((python["version"], tuple(python["words"].tolist()), python["spare"]))
    keys = numpy_state["keys"].numpy().astype(np.uint32)
    np.random.set_state(
        (numpy_state["name"], keys, numpy_state["position"], numpy_state["has_spare"], numpy_state["spare"])
    )
    torch.set_rng_state(state["torch"].cpu())
    for kind, states in state["devices"].items():
        _restore_devices(kind, [entry.cpu() for entry in states])


def _capture_devices() -> dict[str, list[torch.Tensor]]:
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if device is None:
        return {}
    return {device.type: [_module(device.type).get_rng_state(index) for index in _indices(device.type)]}


def _restore_devices(kind: str, states: list[torch.Tensor]) -> None:
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    there = list(_indices(kind)) if device is not None and device.type == kind else []
    if len(there) != len(states):
        _logger.warning("random state of %d '%s' devices was saved, %d are here", len(states), kind, len(there))
    for index, entry in zip(there, states, strict=False):
        _module(kind).set_rng_state(entry, index)


def _indices(kind: str) -> range:
    return range(torch.accelerator.device_count())


def _module(kind: str) -> Any:
    return torch.get_device_module(kind)
