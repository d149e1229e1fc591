import itertools
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from footplate.checkpoint.sharded.tiling import are_apart, is_tiled

Box = tuple[tuple[int, ...], tuple[int, ...]]


def _counted(shape: tuple[int, ...], boxes: list[Box]) -> bool:
    """Counts directly how often each element is covered."""
    counts = np.zeros(shape, int)
    for offsets, sizes in boxes:
        counts[tuple(slice(at, at + length) for at, length in zip(offsets, sizes, strict=True))] += 1
    return bool((counts == 1).all())


@st.composite
def _boxes(draw: st.DrawFn) -> tuple[tuple[int, ...], list[Box]]:
    """Draws a tiling, usually with a box that is moved, grown, removed or duplicated."""
    shape = tuple(draw(st.lists(st.integers(1, 4), max_size=3)))
    boxes: list[Box] = [((0,) * len(shape), shape)]
    for _ in range(draw(st.integers(0, 5))):
        offsets, sizes = boxes.pop(draw(st.integers(0, len(boxes) - 1)))
        long = [d for d, length in enumerate(sizes) if length > 1]
        if not long:
            boxes.append((offsets, sizes))
            continue
        d = draw(st.sampled_from(long))
        at = draw(st.integers(1, sizes[d] - 1))
        boxes.append((offsets, (*sizes[:d], at, *sizes[d + 1 :])))
        boxes.append(((*offsets[:d], offsets[d] + at, *offsets[d + 1 :]), (*sizes[:d], sizes[d] - at, *sizes[d + 1 :])))
    if draw(st.booleans()):
        place = draw(st.integers(0, len(boxes) - 1))
        moved = tuple(draw(st.integers(0, length - 1)) for length in shape)
        sizes = tuple(draw(st.integers(1, length - at)) for length, at in zip(shape, moved, strict=True))
        boxes[place : place + draw(st.integers(0, 1))] = [(moved, sizes)] * draw(st.integers(0, 2))
    return shape, boxes


@given(_boxes())
def test_boxes_tile_if_each_element_is_covered_once(drawn: tuple[tuple[int, ...], list[Box]]) -> None:
    shape, boxes = drawn
    assert is_tiled(shape, boxes) == _counted(shape, boxes)


def test_empty_tensors_and_scalars() -> None:
    assert is_tiled((), [((), ())])
    assert not is_tiled((), [])
    assert not is_tiled((), [((), ()), ((), ())])
    assert is_tiled((0, 4), [])
    assert not is_tiled((0, 4), [((0, 0), (0, 4))])
    assert not is_tiled((2,), [((0,), (2,)), ((0,), (0,))])


def test_thousands_of_pieces_are_checked_at_once() -> None:
    side = 128
    boxes: list[Box] = [(at, (1, 1, 5)) for at in itertools.product(range(side), range(side), [0])]
    begun = time.process_time()
    assert is_tiled((side, side, 5), boxes)
    boxes[77] = ((0, 78, 0), (1, 1, 5))
    assert not is_tiled((side, side, 5), boxes)
    assert time.process_time() - begun < 5


def test_cuts_along_many_dimensions_are_refused() -> None:
    with pytest.raises(ValueError, match="cut along 9 dimensions"):
        is_tiled((2,) * 9, [((0,) * 9, (1,) * 9)])


def test_more_pieces_than_any_run_has_are_refused() -> None:
    """All corners of all pieces are stored, 2**4 for a piece that is cut along four dimensions."""
    boxes = [((place,) * 4, (1, 1, 1, 1)) for place in range(8193)]
    assert not is_tiled((1 << 20,) * 4, boxes[:8192])
    with pytest.raises(ValueError, match="cut into 8193 pieces, and at most 8192 are possible"):
        is_tiled((1 << 20,) * 4, boxes)
    with pytest.raises(ValueError, match="cut along 5 dimensions, and at most 4"):
        is_tiled((2,) * 5, [((0,) * 5, (1,) * 5)])


def test_spans_are_apart() -> None:
    assert are_apart([(4, 8), (0, 4), (9, 10)])
    assert not are_apart([(4, 8), (0, 5)])
    assert not are_apart([(0, 100), (4, 8)])
    assert are_apart([])
