from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from footplate.data.data_element import BaseDataElement
from footplate.errors import DataError
from footplate.models import BaseDataPreprocessor, ImgDataPreprocessor, stack_batch


class Pair(NamedTuple):
    first: Any
    second: Any


def image(height: int, width: int, value: int = 0) -> Tensor:
    """Returns an image whose channels are filled with value, value + 1 and value + 2."""
    return torch.arange(value, value + 3, dtype=torch.uint8).view(3, 1, 1).expand(3, height, width)


def test_nested_tensors_are_moved() -> None:
    data = {"a": [torch.zeros(1), "word"], "b": (torch.zeros(1), None, 3), "c": Pair(torch.zeros(1), b"x")}
    data["d"] = [BaseDataElement(x=torch.zeros(1))]
    moved = BaseDataPreprocessor().to("meta")(data)
    assert (moved["a"][1], moved["b"][1:], moved["c"].second) == ("word", (None, 3), b"x")
    assert all(each.is_meta for each in (moved["a"][0], moved["b"][0], moved["c"].first, moved["d"][0].x))


@pytest.mark.parametrize("as_list", [True, False])
def test_images_are_swapped_normalized_and_padded(as_list: bool) -> None:
    preprocessor = ImgDataPreprocessor([1.0, 2.0, 3.0], 2.0, 4, pad_value=-1, bgr_to_rgb=True)
    images = [image(2, 3, 10), image(2, 3, 20)]
    batch = preprocessor({"inputs": images if as_list else torch.stack(images), "name": "n"})
    assert (batch["inputs"].shape, batch["inputs"].dtype) == ((2, 3, 4, 4), torch.float32)
    assert batch["inputs"][0, :, 0, 0].tolist() == [(12 - 1) / 2, (11 - 2) / 2, (10 - 3) / 2]
    assert batch["inputs"][1, :, 1, 2].tolist() == [(22 - 1) / 2, (21 - 2) / 2, (20 - 3) / 2]
    assert (batch["inputs"][:, :, 2:] == -1).all()
    assert (batch["inputs"][:, :, :, 3:] == -1).all()
    assert (batch["data_samples"], batch["name"]) == (None, "n")


def test_stacking_pads_all_dimensions_except_the_first() -> None:
    batch = stack_batch([torch.ones(3, 2, 4, 5), torch.ones(3, 4, 4, 3)], pad_size_divisor=2, pad_value=-1)
    assert batch.shape == (2, 3, 4, 4, 6)
    assert [(each == 1).sum().item() for each in batch] == [3 * 2 * 4 * 5, 3 * 4 * 4 * 3]
    assert stack_batch([torch.tensor([1, 2]), torch.tensor([3, 4])], 8).tolist() == [[1, 2], [3, 4]]
    with pytest.raises(DataError, match="must have the same number of channels"):
        stack_batch([torch.ones(3, 2, 4), torch.ones(3, 2)])


def test_stacking_keeps_the_memory_format_of_clips() -> None:
    clip = torch.ones(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    assert stack_batch([clip, clip]).flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


def test_batch_augments_are_applied_only_in_training() -> None:
    def doubled(inputs: Tensor, data_samples: Any) -> tuple[Tensor, Any]:
        return inputs * 2, "changed"

    preprocessor = ImgDataPreprocessor(batch_augments=[doubled, doubled])
    data = {"inputs": torch.ones(1, 3, 1, 1), "data_samples": "samples"}
    assert preprocessor(data, False)["inputs"].max().item() == 1.0
    trained = preprocessor(data, True)
    assert (trained["inputs"].max().item(), trained["data_samples"]) == (4.0, "changed")


def test_preprocessors_of_code_bases_find_the_settings_under_the_names_of_mmengine() -> None:
    found, plain = ImgDataPreprocessor(mean=[1, 2, 3], std=[1, 1, 1], bgr_to_rgb=True), ImgDataPreprocessor()
    assert (found._channel_conversion, found._enable_normalize) == (True, True)
    assert (plain._channel_conversion, plain._enable_normalize) == (False, False)
