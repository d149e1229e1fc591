"""Detects whether a dataset has changed: since persistent workers received it, or since a checkpoint was saved."""

import hashlib
import pickle
from contextlib import suppress
from typing import Any

import numpy as np
from torch import Tensor, strided
from torch.utils.data import IterableDataset

from footplate.data.dataset_wrappers import wrapped_datasets


def end_outdated_workers(loader: Any) -> None:
    """Makes the next pass start new workers if the dataset or the collate function has changed since the latest pass.

    Only persistent workers can be outdated. Sets `_iterator` to None, as code for torch's DataLoader does to start new
    workers.
    """
    if getattr(loader, "persistent_workers", False):
        latest, loader._fingerprint = getattr(loader, "_fingerprint", None), _Fingerprint(loader)
        if latest and latest.digest != loader._fingerprint.digest:
            loader._iterator = None


def digest_arrays(dataset: Any) -> dict[str, str]:
    """Returns a digest of each array in a dataset's attributes, keyed by name, also of datasets that it wraps.

    A digest consists of the shape and up to 64 items. Arrays of objects and iterable datasets have none.
    """
    digests: dict[str, str] = {}
    for number, inner in enumerate(wrapped_datasets(dataset)):
        digests |= {f"{number}.{name}": digest for name, digest in digest_arrays(inner).items()}
    for name, value in getattr(dataset, "__dict__", {}).items() if not isinstance(dataset, IterableDataset) else ():
        items: Any = None
        if isinstance(value, np.ndarray) and not value.dtype.hasobject:
            items = value.flat[:: value.size // 64 + 1]
        elif isinstance(value, Tensor) and value.layout is strided:
            items = value.flatten()[:: value.numel() // 64 + 1]
        if items is not None:
            text = repr((tuple(value.shape), items.tolist()))
            digests[name] = hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
    return digests


class _Fingerprint(pickle.Pickler):
    """Digests everything that a dataset consists of.

    Tensors are represented by their identity and version, because they may be large. Files in memory, functions,
    classes, and everything else that cannot be pickled are represented by their identity.
    """

    def __init__(self, loader: Any) -> None:
        digest = hashlib.blake2b()
        self.write = digest.update
        super().__init__(self, pickle.HIGHEST_PROTOCOL)
        self._kept: list[Any] = []  # so that no identity is used again
        self.digest: Any = self  # counts as changed, if pickle cannot walk through the dataset
        with suppress(Exception):
            self.dump((loader.dataset, loader.collate_fn))
            self.digest = digest.digest()
        self.clear_memo()

    def reducer_override(self, value: Any) -> Any:
        """Returns how to represent a value that is not a plain number, text or container."""
        if value is int:
            return NotImplemented
        with suppress(Exception):  # of what cannot be pickled
            if not isinstance(value, (np.memmap, Tensor)):
                return value.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
        self._kept.append(value)
        return int, (id(value), getattr(value, "_version", None))
