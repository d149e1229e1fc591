import contextlib
import io
import pickle
from typing import Any

import pytest

from footplate.errors import (
    ArgumentError,
    BuildError,
    ConfigAttributeError,
    ConfigKeyError,
    FootplateError,
    MissingExtraError,
    Origin,
    UnknownNameError,
)

FULL: dict[str, Any] = {
    "origin": Origin("configs/a.py", 7),
    "key": "optim_wrapper.optimizer.lr",
    "found": "1e-3",
    "suggestion": "float",
    "notes": ["one", "two", "three"],
}


def test_full_error_message() -> None:
    assert str(ArgumentError("lr must be a number", **{**FULL, "notes": ["a note"]})).split("\n") == [
        "lr must be a number",
        "  at configs/a.py:7, key optim_wrapper.optimizer.lr",
        "  found: '1e-3'",
        "  did you mean 'float'?",
        "  a note",
    ]


def test_error_message_has_at_most_five_lines() -> None:
    assert len(str(ArgumentError("wrong", **FULL)).split("\n")) == 5


@pytest.mark.parametrize(
    ("kind", "also"),
    [
        (ConfigKeyError, KeyError),
        (UnknownNameError, KeyError),
        (BuildError, TypeError),
        (ArgumentError, ValueError),
    ],
)
def test_errors_have_builtin_base_classes(kind: type[FootplateError], also: type[Exception]) -> None:
    error = kind("wrong", key="a.b", suggestion="c")
    assert isinstance(error, also)
    assert error.exit_code == 2
    assert str(error) == "wrong\n  key a.b\n  did you mean 'c'?"  # a KeyError's own str() would quote it


@pytest.mark.parametrize("kind", [ArgumentError, ConfigKeyError, ConfigAttributeError])
def test_error_survives_pickling(kind: type[FootplateError]) -> None:
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


def test_missing_extra_error_names_the_extra() -> None:
    error = MissingExtraError("tensorboard", extra="tracking", why="TensorboardVisBackend")
    text = (
        "TensorboardVisBackend needs the package 'tensorboard', which is not installed or cannot be imported\n"
        "  pip install 'footplate[tracking]'"
    )
    assert isinstance(error, ImportError)
    assert str(error) == str(pickle.loads(pickle.dumps(error))) == text


def test_notebooks_show_the_message_instead_of_the_traceback() -> None:
    shell = pytest.importorskip("IPython.core.interactiveshell").InteractiveShell()
    code = "from footplate.errors import ArgumentError\nraise ArgumentError('lr must be positive', key='lr', found=-1)"
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        shell.run_cell(code)
    assert shown.getvalue().splitlines() == [
        "ArgumentError: lr must be positive",
        "  key lr",
        "  found: -1",
        "traceback.print_last() shows the traceback",
    ]


def test_error_of_a_worker_is_complete() -> None:
    error = pickle.loads(pickle.dumps(FootplateError("cannot be built", notes=["a note"], shows_cause=True)))
    assert (str(error), error.shows_cause) == ("cannot be built\n  a note", True)
