import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from footplate.legacy.logs import get_logger, get_root_logger


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("footplate", "footplate.mine")]
    before = [(list(logger.handlers), logger.level) for logger in loggers]
    yield
    for logger, (handlers, level) in zip(loggers, before, strict=True):
        for handler in [each for each in logger.handlers if each not in handlers]:
            logger.removeHandler(handler)
            handler.close()
        logger.setLevel(level)


def test_a_logger_of_ones_own_stands_below_footplates(tmp_path: Path) -> None:
    logger = get_logger("mine", str(tmp_path / "mine.log"), logging.WARNING)
    logger.info("not this")
    logger.warning("this")
    text = (tmp_path / "mine.log").read_text()
    assert logger.name == "footplate.mine"
    assert "this" in text
    assert "not this" not in text


def test_the_root_logger_is_footplates(tmp_path: Path) -> None:
    logger = get_root_logger(str(tmp_path / "run.log"))
    assert logger is logging.getLogger("footplate")
    logger.info("a line")
    assert "a line" in (tmp_path / "run.log").read_text()


def test_asking_again_adds_no_file_twice(tmp_path: Path) -> None:
    path = str(tmp_path / "run.log")
    for _ in range(3):
        logger = get_root_logger(path)
    logger.info("once")
    assert (tmp_path / "run.log").read_text().count("once") == 1


def test_without_a_file_nothing_is_written(tmp_path: Path) -> None:
    before = list(logging.getLogger("footplate").handlers)
    assert get_root_logger().handlers == before
    assert list(tmp_path.iterdir()) == []
