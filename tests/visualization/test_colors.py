import pytest

from footplate.errors import ArgumentError
from footplate.visualization import as_rgb, distinct_colors


@pytest.mark.parametrize(
    ("color", "expected"),
    [("red", (255, 0, 0)), ("g", (0, 128, 0)), ("#0a0b0c", (10, 11, 12)), ([1, 2, 3], (1, 2, 3))],
)
def test_names_letters_codes_and_numbers_are_colors(color: str | list[int], expected: tuple[int, int, int]) -> None:
    assert as_rgb(color) == expected


def test_a_misspelt_color_names_the_nearest() -> None:
    with pytest.raises(ArgumentError, match="did you mean 'purple'"):
        as_rgb("purpel")


@pytest.mark.parametrize("color", [(1, 2), (0, 0, 256), (-1, 0, 0)])
def test_numbers_that_are_no_color_are_refused(color: tuple[int, ...]) -> None:
    with pytest.raises(ArgumentError, match="three numbers"):
        as_rgb(color)


def test_colors_are_distinct_and_do_not_depend_on_their_number() -> None:
    many = distinct_colors(60)
    assert len(set(many)) == 60
    assert distinct_colors(7) == many[:7]
