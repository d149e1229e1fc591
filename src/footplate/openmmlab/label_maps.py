"""Checks whether MMSegmentation can load the label maps of a dataset."""

from contextlib import suppress
from typing import Any

from footplate.errors import ArgumentError, DataError
from footplate.registry.scopes import code_base_of


def check_label_maps(dataset: Any) -> None:
    """Checks the settings for loading label maps, and the shape of the first label map.

    Raises:
        ArgumentError: `reduce_zero_label` differs between the dataset and LoadAnnotations.
        DataError: The label map has more than two dimensions.
    """
    transforms = list(getattr(getattr(dataset, "pipeline", None), "transforms", ()))
    loads = [code_base_of(type(each)) == "mmseg" and hasattr(each, "reduce_zero_label") for each in transforms]
    is_readable = hasattr(dataset, "get_data_info") and len(dataset) > 0  # datasets of mmseg 0.x have no such method
    if not any(loads) or not is_readable:
        return
    place, record = loads.index(True), dataset.get_data_info(0)
    loader = transforms[place]
    expected = record.get("reduce_zero_label", loader.reduce_zero_label)
    found = loader.reduce_zero_label
    if found not in (None, expected):
        raise ArgumentError(
            f"reduce_zero_label is {found} in {type(loader).__name__}, but {expected} in the dataset",
            key=f"pipeline[{place}].reduce_zero_label",
            notes=["Set reduce_zero_label to the same value in the dataset and in LoadAnnotations."],
        )
    kinds = map(type, transforms[place:])
    if not all(kind.__module__.startswith("footplate.") or code_base_of(kind) for kind in kinds):
        return  # the user's transforms may convert the label map
    shape: tuple[int, ...] = ()
    with suppress(Exception):  # the run reports or skips the sample
        shape = loader(record)["gt_seg_map"].shape
    if len(shape) > 2:
        raise DataError(
            f"the label map '{record['seg_map_path']}' must have two dimensions, not the shape {shape}",
            key="data_prefix.seg_map_path",
            notes=["Convert its colors to class indices, in one channel."],
        )
