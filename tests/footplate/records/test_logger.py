import errno
import io
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from footplate.records import (
    buffer_log,
    get_logger,
    logging_to,
    set_level,
)
from tests.support import json_lines


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    logger = get_logger()
    handlers, level = list(logger.handlers), logger.level
    logger.handlers.clear()
    yield
    for handler in logger.handlers:
        handler.close()
    logger.handlers[:] = handlers
    logger.setLevel(level)


def test_screen_shows_the_log_level(capsys: pytest.CaptureFixture[str]) -> None:
    set_level("WARNING")
    set_level("INFO")
    get_logger().info("one line")
    get_logger("footplate.optim").info("another")
    get_logger().debug("not this")
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith(" - footplate - INFO - one line")
    assert second.endswith(" - footplate - INFO - another")  # names of packages tell a user nothing


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("columns", "pattern"),
    [
        (
            160,
            r"\S{10} \S{8} - footplate - INFO - Iter\(train\) \[10/30\]  loss: 0.5  acc: 42.9  lr: 1e-3  eta: 0:01\n",
        ),
        (90, r"\S{8} - Iter\(train\) \[10/30\]  loss: 0.5  acc: 42.9  lr: 1e-3  eta: 0:01\n"),
        (52, r"\S{8} - Iter\(train\) \[10/30\]  loss: 0.5\n    acc: 42.9  lr: 1e-3  eta: 0:01\n"),
    ],
)
def test_terminal_shows_losses_first_and_wraps_between_terms_but_not_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: int, pattern: str
) -> None:
    screen = Screen()
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(columns))
    set_level("INFO")
    with logging_to(str(tmp_path / "a.log")):
        get_logger().info("Iter(train) [10/30]  lr: 1e-3  eta: 0:01  loss: 0.5  acc: 42.9")
    assert re.fullmatch(pattern, screen.getvalue()), screen.getvalue()
    written = (tmp_path / "a.log").read_text()
    assert written.partition(" - ")[2] == (
        "footplate - INFO - Iter(train) [10/30]  lr: 1e-3  eta: 0:01  loss: 0.5  acc: 42.9\n"
    )


def test_terminal_shows_the_headline_metric_first_with_its_change(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    set_level("INFO")
    line = "Epoch(val) [2][2/2]    loss: 0.5  mIoU: 61.5000  time: 0.1"
    get_logger().info(line, extra={"headline": "mIoU", "change": "\xa0(+1.5)"})
    shown = screen.getvalue().partition(" - ")[2]
    assert shown == "Epoch(val) [2][2/2]    \x1b[1mmIoU: 61.5000 (+1.5)\x1b[0m\x1b[2m  loss: 0.5  time: 0.1\x1b[0m\n"


def test_each_run_has_a_log_file(tmp_path: Path) -> None:
    set_level("INFO", screen=False)
    with logging_to(str(tmp_path / "a.log")):
        get_logger().info("first run")
    with logging_to(str(tmp_path / "b.log")):
        get_logger().info("second run: ü")
    get_logger().info("after both")
    assert [line.partition(" - ")[2] for line in (tmp_path / "a.log").read_text().splitlines()] == [
        "footplate - INFO - first run"
    ]
    assert (tmp_path / "b.log").read_text(encoding="utf-8").endswith("INFO - second run: ü\n")
    assert (tmp_path / "b.log").read_text(encoding="utf-8").count("\n") == 1


def test_warnings_are_also_written_as_data(tmp_path: Path) -> None:
    with buffer_log() as before:
        get_logger("footplate.optim").warning("before %d", 1)
        get_logger().info("fine")
    with logging_to(str(tmp_path / "run.log"), before):
        get_logger().error("two\nlines")
    lines = json_lines(tmp_path / "run.warnings.jsonl")
    assert [(each["logger"], each["level"], each["message"]) for each in lines] == [
        ("footplate.optim", "WARNING", "before 1"),
        ("footplate", "ERROR", "two\nlines"),
    ]
    assert all(re.fullmatch(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d", each["time"]) for each in lines)


def test_control_characters_and_surrogates_are_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    set_level("INFO")
    with logging_to(str(tmp_path / "run.log")):
        get_logger().info("work_dir %s, class %s\n\tindented", "caf\udce9", "\x1b[2J\u202e")
    expected = "work_dir caf\\udce9, class \\x1b[2J\\u202e\n\tindented\n"
    assert (tmp_path / "run.log").read_text().endswith(expected)
    assert capsys.readouterr().out.endswith(expected)


class _FullDisk(io.StringIO):
    def write(self, text: str, /) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_reported_once_and_without_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", True)
    logger = get_logger()
    path = str(tmp_path / "run.log")
    (tmp_path / "run.warnings.jsonl").mkdir()  # so that this file cannot be created
    with logging_to(path):
        handler = next(each for each in logger.handlers if getattr(each, "baseFilename", None) == path)
        assert isinstance(handler, logging.FileHandler)
        handler.close()
        handler.stream = _FullDisk()  # type: ignore[assignment]
        for number in range(3):
            logger.warning("line %d", number)
    assert (
        capsys.readouterr().err
        == f"cannot write to '{path}': No space left on device. Some log lines are missing from this file.\n"
    )


def test_lines_are_shown_once_if_a_package_has_called_basicconfig(capsys: pytest.CaptureFixture[str]) -> None:
    handler = logging.StreamHandler(sys.stderr)  # what `basicConfig` adds
    logging.root.addHandler(handler)
    try:
        set_level("INFO")
        get_logger().warning("ours")
        logging.getLogger("theirs").warning("of others")
    finally:
        logging.root.removeHandler(handler)
    screen = capsys.readouterr()
    assert (screen.out.count("ours"), screen.err) == (1, "of others\n")


def test_a_log_call_with_wrong_arguments_is_reported_and_does_not_end_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(get_logger(), "propagate", False)  # pytest's handler would raise the error
    set_level("INFO")
    with logging_to(str(tmp_path / "run.log")):
        get_logger().warning("no such label", 3, "walk")
        get_logger().info("the run continues")
    screen = capsys.readouterr()
    assert "the run continues" in screen.out
    assert "Arguments: (3, 'walk')" in screen.err
    assert (tmp_path / "run.log").read_text().endswith("the run continues\n")
