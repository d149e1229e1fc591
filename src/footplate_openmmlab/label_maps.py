"""Checks the shape of the first label map of an MMSegmentation dataset."""

from contextlib import suppress
from typing import Any

from footplate.errors import DataError, is_own_module
from footplate.registry.scopes import code_base_of


def check_label_maps(dataset: Any) -> None:
    """Checks the shape of the first label map.

    Raises:
        DataError: The label map has more than two dimensions.
    """
    transforms = list(getattr(getattr(dataset, "pipeline", None), "transforms", ()))
    loads = [code_base_of(type(each)) == "mmseg" and hasattr(each, "reduce_zero_label") for each in transforms]
    if not any(loads):
        return
    place = loads.index(True)
    kinds = map(type, transforms[place:])
    if not all(is_own_module(kind.__module__) or code_base_of(kind) for kind in kinds):
        return  # the user's transforms may convert the label map
    shape: tuple[int, ...] = ()
    with suppress(Exception):  # the run reports or skips the sample; datasets of mmseg 0.x have no `get_data_info`
        record = dataset.get_data_info(0)
        shape = transforms[place](record)["gt_seg_map"].shape
    if len(shape) > 2:
        raise DataError(
            f"the label map '{record['seg_map_path']}' must have two dimensions, not the shape {shape}",
            key="data_prefix.seg_map_path",
            notes=["Convert its colors to class indices, in one channel."],
        )
