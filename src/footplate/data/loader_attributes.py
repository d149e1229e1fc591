"""Reads attributes that loaders and datasets of other libraries may lack."""

from typing import Any


def length_of(loader: Any) -> int | None:
    """Returns the length of a loader or dataset, or None if it is unknown, as for streams."""
    try:
        return len(loader)
    except TypeError:  # a torch DataLoader always has `__len__`, which raises for streams
        return None


def dataset_of(loader: Any) -> Any:
    """Returns the dataset of a loader, or None if the loader is any other iterable of batches."""
    return getattr(loader, "dataset", None)


def is_stateful(value: Any) -> bool:
    """Checks whether a loader, dataset or sampler can save and restore its state."""
    return hasattr(value, "state_dict") and hasattr(value, "load_state_dict")


def metainfo_of(loader: Any) -> Any:
    """Returns the metadata (such as the classes) of a loader's dataset, or None if it has no metadata."""
    return metainfo_in(dataset_of(loader))


def metainfo_in(dataset: Any) -> Any:
    """Returns a dataset's metadata, or None. MMDetection's ConcatDataset may have a list, whose first item is used."""
    metainfo = getattr(dataset, "metainfo", None)
    return metainfo[0] if isinstance(metainfo, list) else metainfo
