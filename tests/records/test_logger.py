import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from footplate.records import get_logger, logging_to, print_log, set_level


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


def test_the_screen_shows_the_level_that_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    set_level("WARNING")
    set_level("INFO")
    get_logger().info("one line")
    get_logger("footplate.optim").info("another")
    get_logger().debug("not this")
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith(" - footplate - INFO - one line")
    assert second.endswith(" - footplate.optim - INFO - another")


def test_other_processes_show_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    set_level("INFO")
    set_level("INFO", screen=False)
    get_logger().info("one line")
    assert capsys.readouterr().out == ""


def test_a_run_logs_to_its_own_file(tmp_path: Path) -> None:
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


def test_print_log(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "footplate"):
        print_log("printed")
        print_log("nothing", logger="silent")
        print_log("current", logger="current")
        print_log("named", logger="footplate.optim", level=logging.ERROR)
        print_log("given", logger=get_logger())
    assert capsys.readouterr().out == "printed\n"
    assert [(each.name, each.levelname, each.message) for each in caplog.records] == [
        ("footplate", "INFO", "current"),
        ("footplate.optim", "ERROR", "named"),
        ("footplate", "INFO", "given"),
    ]
