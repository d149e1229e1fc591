"""Lines are wrapped at the width of the terminal and indented to their second column."""

import pytest

from footplate.cli.fitting import fitted, fitted_to_screen

HOOKS = "  before_train     RuntimeInfoHook (VERY_HIGH), LoggerHook (LOW)"


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        (HOOKS, len(HOOKS), [HOOKS]),
        (
            HOOKS,
            len(HOOKS) - 1,
            ["  before_train     RuntimeInfoHook (VERY_HIGH),", "                   LoggerHook (LOW)"],
        ),
        (HOOKS, 56, ["  before_train     RuntimeInfoHook (VERY_HIGH),", "                   LoggerHook (LOW)"]),
        ("val a data  " + "six " * 9, 40, ["val a data  " + ("six " * 7)[:-1], "            six six"]),
        ("  no label of two words at all in this one", 40, ["  no label of two words at all in this", "    one"]),
        ("size        " + "/" * 50, 40, ["size        " + "/" * 50]),
        ("one\n\ntwo\n", 40, ["one", "", "two", ""]),
    ],
)
def test_a_line_goes_on_below_its_second_column(text: str, width: int, lines: list[str]) -> None:
    assert fitted(text, width).split("\n") == lines


@pytest.mark.parametrize(("columns", "widest"), [("60", 60), ("80", 80), (None, 100)])
def test_the_width_is_that_of_the_terminal(monkeypatch: pytest.MonkeyPatch, columns: str | None, widest: int) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr("sys.__stdout__", None)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    assert max(map(len, fitted("warning     " + "a " * 200).split("\n"))) in (widest, widest - 1)


@pytest.mark.parametrize(("is_screen", "lines"), [(True, 2), (False, 1)])
def test_only_what_a_screen_shows_is_broken(monkeypatch: pytest.MonkeyPatch, is_screen: bool, lines: int) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr("sys.stdout.isatty", lambda: is_screen)
    assert fitted_to_screen("a " * 40).count("\n") + 1 == lines
