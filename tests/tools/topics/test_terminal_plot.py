import pytest

from footplate.tools.topics.terminal_plot import terminal_plot


def rungs(lines: list[str]) -> list[str]:
    """The numbers at the upright axis, from below."""
    return [line.split("┤")[0].strip() for line in reversed(lines) if "┤" in line]


def line_of(values: list[float]) -> list[tuple[float, float]]:
    return [(float(at), value) for at, value in enumerate(values)]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (3e-5, 0.00275339, ["0", "0.0005", "0.0010", "0.0015", "0.0020", "0.0025", "0.0030"]),
        (0.0, 1.0, ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (0.85, 0.95, ["0.84", "0.86", "0.88", "0.90", "0.92", "0.94", "0.96"]),
        (1e-7, 2e-5, ["0", "5e-06", "1e-05", "1.5e-05", "2e-05"]),
        (3.0, 250.0, ["0", "50", "100", "150", "200", "250"]),
        (-1.0, 1.0, ["-1.0", "-0.5", "0", "0.5", "1.0"]),
        (0.0, 0.0, ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
    ],
)
def test_numbers_at_the_upright_axis_are_round(low: float, high: float, expected: list[str]) -> None:
    assert rungs(terminal_plot([line_of([low, high, low])])) == expected


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (1099, ["0", "200", "400", "600", "800", "1000"]),
        (159_999, ["0", "50000", "100000", "150000"]),
        (99_999_999, ["0", "50000000"]),
        (4, ["0", "1", "2", "3", "4"]),
        (1, ["0", "1"]),
    ],
)
def test_iterations_below_are_round_and_apart(last: int, expected: list[str]) -> None:
    rule, numbers, _ = terminal_plot([[(0.0, 1.0), (float(last), 0.5)]])[-3:]
    assert numbers.split() == expected
    assert rule.count("┬") == len(expected)


def test_a_value_lies_at_its_rung() -> None:
    lines = terminal_plot([[(0.0, 1.0), (10.0, 1.0)], [(0.0, 0.4), (10.0, 0.4)]])
    drawn = [line for line in lines if any("\u2801" <= letter <= "\u28ff" for letter in line)]
    assert [line.split("┤")[0].strip() for line in drawn] == ["1.0", "0.4"]
    assert {len(line) for line in drawn} == {5 + 48}


@pytest.mark.parametrize("high", [1e-9, 0.0123, 1.0, 123_456.0])
def test_a_plot_is_never_wider_than_sixty_columns_and_ends_with_no_blank(high: float) -> None:
    for line in terminal_plot([line_of([0.0, high / 3, high, high / 7])]):
        assert len(line) <= 60
        assert line == line.rstrip(" \u2800")
