from typing import Any

import numpy as np
import pytest
import torch

from footplate.errors import ArgumentError
from footplate.visualization import Visualizer, draw_featmap, heat_colors

BLUE, GREEN, RED = [0, 0, 128], [128, 255, 128], [128, 0, 0]


def ramp() -> Any:
    """Three channels of 1 x 3: one from low to high, one from high to low with a larger mean, one of nothing."""
    return torch.tensor([[[0.0, 1.0, 2.0]], [[9.0, 3.0, 0.0]], [[0.0, 0.0, 0.0]]])


def test_low_values_are_blue_and_high_values_red() -> None:
    assert heat_colors(np.array([0.0, 0.5, 1.0])).tolist() == [BLUE, GREEN, RED]


@pytest.mark.parametrize(
    ("reduction", "first", "last"), [("squeeze_mean", RED, BLUE), ("select_max", RED, BLUE), (None, RED, BLUE)]
)
def test_channels_are_reduced(reduction: Any, first: list[int], last: list[int]) -> None:
    image = draw_featmap(ramp(), channel_reduction=reduction, topk=1, arrangement=(1, 1))
    assert (image.shape, image[0, 0].tolist(), image[0, 2].tolist()) == ((1, 3, 3), first, last)


def test_the_mean_and_the_largest_channel_differ() -> None:
    mean = draw_featmap(ramp()[:1].repeat(1, 1, 1), channel_reduction="squeeze_mean")
    assert mean[0, 0].tolist() == BLUE
    both = ramp()[:2] * torch.tensor([[[10.0]], [[1.0]]])
    assert draw_featmap(both, channel_reduction="squeeze_mean")[0, 2].tolist() == RED
    assert draw_featmap(both, channel_reduction="select_max")[0, 0].tolist() == BLUE


def test_the_strongest_channels_are_arranged_in_a_grid() -> None:
    image = draw_featmap(ramp(), channel_reduction=None, topk=-1, arrangement=(2, 2))
    assert image.shape == (2, 6, 3)
    assert [image[0, 0].tolist(), image[0, 3].tolist()] == [RED, BLUE]
    assert (image[1, 3:] == 255).all()


def test_the_map_is_blended_with_an_image() -> None:
    image = np.full((4, 6), 100, np.uint8)
    alone = draw_featmap(ramp()[1:2], resize_shape=(4, 6))
    over = Visualizer("heat").draw_featmap(ramp()[1:2], image, alpha=0.25)
    assert over.shape == alone.shape == (4, 6, 3)
    assert np.abs(over - (0.25 * 100 + 0.75 * alone)).max() <= 0.5


def test_nan_is_drawn_as_a_low_value() -> None:
    assert draw_featmap(np.array([[[np.nan, 1.0]]]))[0].tolist() == [BLUE, RED]


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({"featmap": np.zeros((4, 4))}, "featmap"),
        ({"channel_reduction": "mean"}, "channel_reduction"),
        ({"alpha": 2}, "alpha"),
        ({"channel_reduction": None, "topk": 0}, "topk"),
        ({"channel_reduction": None, "topk": 3, "arrangement": (1, 2)}, "arrangement"),
    ],
)
def test_invalid_arguments_are_refused(arguments: dict[str, Any], key: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        draw_featmap(**{"featmap": ramp(), **arguments})
    assert caught.value.key == key
