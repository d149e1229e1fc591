import numpy as np
import pytest
import torch

from footplate.tasks.selfsup.selfsup_hooks import as_picture, draw_neighbors, draw_reconstructions

BLUE, ORANGE = [0, 114, 178], [213, 94, 0]


def flat(value: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.full((28, 28, 3), value, np.uint8)


def test_frames_tell_the_same_class() -> None:
    page = draw_neighbors([flat(10), flat(20)], [[flat(1), flat(2)]] * 2, [[True, False], [False, True]])
    assert page.shape == (2 * 100, 3 * 100, 3)
    frames = [[page[100 * row + 5, 100 * column + 50].tolist() for column in range(3)] for row in range(2)]
    assert frames == [[[255] * 3, BLUE, ORANGE], [[255] * 3, ORANGE, BLUE]]
    middles = [[page[100 * row + 50, 100 * column + 50, 0] for column in range(3)] for row in range(2)]
    assert middles == [[10, 1, 2], [20, 1, 2]]


def test_what_was_hidden_is_covered_and_then_filled() -> None:
    hidden = np.zeros((28, 28), bool)
    hidden[14:] = True
    page = draw_reconstructions([flat(10)], [hidden], [flat(200)])
    tops, bottoms = ([int(page[at, 100 * column + 50, 0]) for column in range(3)] for at in (20, 80))
    assert tops == [10, 10, 10]
    assert bottoms == [10, 128, 200]


@pytest.mark.parametrize("channels", [1, 3])
def test_planes_become_pictures(channels: int) -> None:
    picture = as_picture(torch.tensor([-5.0, 20.4, 300.0]).view(1, 1, 3).expand(channels, 2, 3))
    assert picture.shape == (2, 3, 3)
    assert picture[0, :, 1].tolist() == [0, 20, 255]
