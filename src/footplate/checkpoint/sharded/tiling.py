"""Checks that shards cover a tensor exactly, and that no byte of a file is used twice."""

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence

_MOST_CUT = 4  # dimensions; device meshes have two or three
_MOST_CORNERS = 1 << 17  # of the pieces of one tensor, which are all in memory at once


def is_tiled(shape: Sequence[int], pieces: Sequence[tuple[Sequence[int], Sequence[int]]]) -> bool:
    """Returns whether boxes cover a tensor without gaps or overlaps, in time linear in the number of boxes.

    Give each corner of a box the sign of the parity of its number of upper coordinates. The signed corners are the
    mixed difference of the box's indicator function and determine it. So the boxes cover each element of the tensor
    exactly once if and only if the signed corners of all boxes add up to those of the tensor.

    Args:
        shape: The shape of the tensor.
        pieces: The offsets and sizes of each box.

    Raises:
        ValueError: The tensor is cut along more dimensions than any mesh has, or into far too many pieces.

    Example:
        >>> is_tiled((4, 2), [((0, 0), (3, 2)), ((3, 0), (1, 2))])
        True
        >>> is_tiled((4, 2), [((0, 0), (3, 2)), ((0, 0), (1, 2))])
        False
    """
    if not all(shape):
        return not pieces
    if not all(all(sizes) for _, sizes in pieces):
        return False
    cut = [d for d, length in enumerate(shape) if any(sizes[d] != length or offsets[d] for offsets, sizes in pieces)]
    if len(cut) > _MOST_CUT:
        raise ValueError(f"a tensor is cut along {len(cut)} dimensions, and at most {_MOST_CUT} are possible")
    if len(pieces) << len(cut) > _MOST_CORNERS:
        raise ValueError(
            f"a tensor is cut into {len(pieces)} pieces, and at most {_MOST_CORNERS >> len(cut)} are possible"
        )
    corners: Counter[tuple[int, ...]] = Counter()
    whole = [0] * len(shape), shape
    for (offsets, sizes), sign in itertools.chain(((piece, 1) for piece in pieces), [(whole, -1)]):
        for upper in itertools.product((False, True), repeat=len(cut)):
            corner = tuple(offsets[d] + sizes[d] if up else offsets[d] for d, up in zip(cut, upper, strict=True))
            corners[corner] += -sign if sum(upper) % 2 else sign
    return not any(corners.values())


def are_apart(spans: Iterable[tuple[int, int]]) -> bool:
    """Returns whether no two spans `(begin, end)` share a byte."""
    ordered = sorted(spans)
    return all(before[1] <= after[0] for before, after in itertools.pairwise(ordered))
