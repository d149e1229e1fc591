import pickle
from typing import Any

import pytest

from footplate.errors import (
    ArgumentError,
    BuildError,
    CheckpointDamagedError,
    CheckpointError,
    ConfigAttributeError,
    ConfigError,
    ConfigKeyError,
    ConfigSyntaxError,
    DataError,
    DuplicateNameError,
    FootplateError,
    MissingExtraError,
    Origin,
    OverrideError,
    RegistryError,
    UnknownNameError,
    add_note,
    at_key,
    check_count,
    counted,
    every,
    located,
    nearest,
    origin_of,
    with_origins,
)

FULL: dict[str, Any] = {
    "origin": Origin("configs/a.py", 7),
    "key": "optim_wrapper.optimizer.lr",
    "found": "1e-3",
    "suggestion": "float",
    "notes": ["one", "two", "three"],
}


def test_an_error_says_what_where_what_was_found_and_what_would_be_right() -> None:
    assert str(ArgumentError("lr must be a number", **{**FULL, "notes": ["a note"]})).split("\n") == [
        "lr must be a number",
        "  at configs/a.py:7, key optim_wrapper.optimizer.lr",
        "  found: '1e-3'",
        "  did you mean 'float'?",
        "  a note",
    ]


def test_an_error_has_five_lines_at_most() -> None:
    assert len(str(ArgumentError("wrong", **FULL)).split("\n")) == 5


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({}, "wrong"),
        ({"key": "a"}, "wrong\n  key a"),
        ({"origin": Origin("a.py", 3)}, "wrong\n  at a.py:3"),
        ({"origin": Origin("a.py", 0)}, "wrong\n  at a.py"),
        ({"found": None}, "wrong\n  found: None"),
        ({"found": "x" * 400}, "wrong\n  found: '" + "x" * 156 + "..."),
        ({"found": {"a": "line\nbreak", "b": [1]}}, "wrong\n  found: {'a': 'line\\nbreak', 'b': [1]}"),
    ],
)
def test_only_what_is_known_is_said(given: dict[str, Any], text: str) -> None:
    assert str(FootplateError("wrong", **given)) == text


def test_a_value_that_prints_over_several_lines_takes_one() -> None:
    class Table:
        def __repr__(self) -> str:
            return "Table\n   row\n   row"

    assert str(FootplateError("wrong", found=Table())) == "wrong\n  found: Table row row"


@pytest.mark.parametrize(
    ("kind", "also"),
    [
        (ConfigError, ValueError),
        (ConfigSyntaxError, ConfigError),
        (ConfigKeyError, KeyError),
        (ConfigKeyError, ConfigError),
        (ConfigAttributeError, AttributeError),
        (ConfigAttributeError, ConfigError),
        (OverrideError, ConfigError),
        (UnknownNameError, KeyError),
        (UnknownNameError, RegistryError),
        (DuplicateNameError, KeyError),
        (DuplicateNameError, RegistryError),
        (BuildError, TypeError),
        (BuildError, RegistryError),
        (ArgumentError, ValueError),
        (DataError, FootplateError),
        (CheckpointDamagedError, CheckpointError),
    ],
)
def test_errors_are_also_what_existing_code_catches(kind: type[FootplateError], also: type[Exception]) -> None:
    error = kind("wrong", key="a.b", suggestion="c")
    assert isinstance(error, also)
    assert error.exit_code == 2
    assert str(error) == "wrong\n  key a.b\n  did you mean 'c'?"  # a KeyError's own str() would quote it


@pytest.mark.parametrize("kind", [ArgumentError, ConfigKeyError, UnknownNameError, ConfigAttributeError, BuildError])
def test_an_error_survives_pickling(kind: type[FootplateError]) -> None:
    read = pickle.loads(pickle.dumps(kind("wrong", **FULL)))
    assert type(read) is kind
    assert (str(read), read.args) == (str(kind("wrong", **FULL)), ("wrong",))
    assert (read.origin, read.key, read.found, read.suggestion, read.notes) == (
        Origin("configs/a.py", 7),
        "optim_wrapper.optimizer.lr",
        "1e-3",
        "float",
        ("one", "two", "three"),
    )


def test_nothing_found_stays_nothing_found_when_pickled() -> None:
    assert str(pickle.loads(pickle.dumps(DataError("wrong")))) == "wrong"


def test_a_missing_extra_names_the_extra_and_survives_pickling() -> None:
    error = MissingExtraError("tensorboard", extra="tracking", why="TensorboardVisBackend")
    text = (
        "TensorboardVisBackend needs the package 'tensorboard', which is not installed\n"
        "  pip install 'footplate[tracking]'"
    )
    assert isinstance(error, ImportError)
    assert str(error) == str(pickle.loads(pickle.dumps(error))) == text


@pytest.mark.parametrize(
    ("key", "prefix", "path"),
    [("", "model", "model"), ("lr", "optimizer", "optimizer.lr"), ("[2].type", "custom_hooks", "custom_hooks[2].type")],
)
def test_a_key_path_grows_from_the_left(key: str, prefix: str, path: str) -> None:
    error = FootplateError("wrong", key=key)
    assert error.within(prefix) is error
    assert error.key == path


def test_errors_that_pass_learn_where_they_are() -> None:
    with pytest.raises(ArgumentError) as caught, at_key("optim_wrapper"), at_key("optimizer"):
        raise ArgumentError("wrong", key="lr")
    assert caught.value.key == "optim_wrapper.optimizer.lr"
    with pytest.raises(ZeroDivisionError), at_key("optim_wrapper"):
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("train_dataloder", "train_dataloader"),
        ("checkpointhook", "CheckpointHook"),
        ("CheckpoinHook", "CheckpointHook"),
        ("intervall", "interval"),
        ("models", None),
        ("gallery_dataloader", None),
        ("val_evaluator_dice", None),
        ("", None),
    ],
)
def test_the_nearest_word(word: str, near: str | None) -> None:
    known = ["train_dataloader", "test_evaluator", "CheckpointHook", "LoggerHook", "interval", "work_dir"]
    assert nearest(word, known) == near


@pytest.mark.parametrize(("word", "near"), [("SDG", "SGD"), ("lrr", "lr"), ("xyz", None), ("Adma", "Adam")])
def test_the_nearest_of_short_words(word: str, near: str | None) -> None:
    assert nearest(word, ["SGD", "Adam", "lr", "betas"]) == near


def test_the_nearest_word_of_none() -> None:
    assert nearest("lr", []) is None


def test_a_mapping_may_know_where_it_was_written() -> None:
    class Traced(dict[str, int]):
        _origins = {None: Origin("a.py", 1), "lr": Origin("a.py", 3)}

    traced = Traced(lr=1, other=2)
    assert origin_of(traced, "lr") == Origin("a.py", 3)
    assert origin_of(traced, "other") == origin_of(traced) == Origin("a.py", 1)
    assert origin_of({"lr": 1}, "lr") is None
    assert origin_of(None) is None
    copied = with_origins({"type": "SGD", **traced}, traced)
    assert copied == {"type": "SGD", "lr": 1, "other": 2}
    assert origin_of(copied, "lr") == Origin("a.py", 3)
    assert origin_of(with_origins({"lr": 1}, {"lr": 1}), "lr") is None


class Placed(dict[str, Any]):
    def __init__(self, lines: dict[str | None, int], **values: Any) -> None:
        super().__init__(values)
        self._origins = {key: Origin("a.py", line) for key, line in lines.items()}


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("hooks[1].interval", 7),
        ("hooks[1].priority", 6),  # not written there: the hook's own line
        ("hooks[1]", 3),
        ("model.layers[0]", 2),
        ("model", 2),
        ("nothing", None),  # not even a section: the first line of the first base says nothing about it
    ],
)
def test_an_error_finds_its_place_in_the_config(key: str, line: int | None) -> None:
    hook = Placed({None: 6, "interval": 7}, interval=-1)
    source = Placed({None: 1, "model": 2, "hooks": 3}, model={"layers": [1]}, hooks=[{}, hook])
    with pytest.raises(ArgumentError) as caught, located(source):
        raise ArgumentError("wrong", key=key)
    assert caught.value.origin == (None if line is None else Origin("a.py", line))


def test_a_place_that_is_known_already_is_kept() -> None:
    with pytest.raises(ArgumentError) as caught, located(Placed({None: 1})):
        raise ArgumentError("wrong", key="a", origin=Origin("b.py", 9))
    assert caught.value.origin == Origin("b.py", 9)


@pytest.mark.parametrize("value", [0, -1, 2.0, True, "2", None])
def test_a_count_is_a_whole_number_of_at_least_so_many(value: object) -> None:
    assert check_count("interval", 0, least=0) == 0
    with pytest.raises(ArgumentError) as caught:
        check_count("interval", value, key="hook.interval")
    assert (
        str(caught.value) == f"interval must be a whole number of at least 1\n  key hook.interval\n  found: {value!r}"
    )


def test_a_count_may_be_too_large() -> None:
    assert check_count("max_iters", 12, most=12) == 12
    with pytest.raises(ArgumentError, match="max_iters must be at most 1,000"):
        check_count("max_iters", 1001, most=1000)


@pytest.mark.parametrize("count", [0, 3, 9])
def test_a_note_that_is_added_is_shown_last_however_much_is_said(count: int) -> None:
    error = FootplateError("wrong", key="a.b", notes=[f"note {number}" for number in range(count)])
    add_note(error, "and this")
    lines = str(error).splitlines()
    assert (len(lines), lines[-1]) == (min(count, 2) + 3, "  and this")


def test_a_note_is_added_to_any_error() -> None:
    error = OSError("full")
    add_note(error, "one")
    add_note(error, "two")
    assert getattr(error, "__notes__", None) == ["one", "two"]


@pytest.mark.parametrize(
    ("count", "how_many", "how_often"),
    [(0, "0 epochs", "every 0 epochs"), (1, "1 epoch", "every epoch"), (2, "2 epochs", "every 2 epochs")],
)
def test_one_is_no_plural(count: int, how_many: str, how_often: str) -> None:
    assert counted(count, "epoch") == how_many
    assert every(count, "epoch") == how_often


def test_what_ends_a_line_or_moves_a_cursor_is_spelled_out() -> None:
    error = ConfigError("no file 'a\x1eb\x0bc'", suggestion="d\x1b[2Je", notes=["tried 'f\r\u2028g'", "学习率\th"])
    assert str(error).splitlines() == [
        "no file 'a\\x1eb\\x0bc'",
        "  did you mean 'd\\x1b[2Je'?",
        "  tried 'f\\r\\u2028g'",
        "  学习率\th",
    ]
