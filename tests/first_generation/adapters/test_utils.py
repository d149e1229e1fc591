import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from footplate.first_generation.adapters import MMDataParallel
from footplate.first_generation.adapters.utils import (
    BatchNorm,
    InstanceNorm,
    get_dist_info,
    get_logger,
    get_model,
    get_root_logger,
    init_dist,
    is_list_of,
    is_seq_of,
    is_str,
    is_tuple_of,
)


@pytest.fixture(autouse=True)
def _restored_loggers() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("footplate", "footplate.mine")]
    before = [(list(logger.handlers), logger.level) for logger in loggers]
    yield
    for logger, (handlers, level) in zip(loggers, before, strict=True):
        for handler in [each for each in logger.handlers if each not in handlers]:
            logger.removeHandler(handler)
            handler.close()
        logger.setLevel(level)


@pytest.mark.parametrize(
    ("check", "value", "kind", "expected"),
    [
        (is_list_of, [1, 2], int, True),
        (is_list_of, [1, "2"], int, False),
        (is_list_of, (1, 2), int, False),
        (is_tuple_of, (1, 2), int, True),
        (is_tuple_of, [1, 2], int, False),
        (is_seq_of, (1, 2.0), (int, float), True),
        (is_seq_of, {1, 2}, int, False),
        (is_list_of, [], dict, True),
    ],
)
def test_sequence_type_checks(check: Any, value: Any, kind: Any, expected: bool) -> None:
    assert check(value, kind) is expected


def test_is_str() -> None:
    assert is_str("a")
    assert not is_str(b"a")


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm])
def test_batch_norm_base_class(kind: Any) -> None:
    assert issubclass(kind, BatchNorm)
    assert not issubclass(kind, InstanceNorm)


@pytest.mark.parametrize("kind", [nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d])
def test_instance_norm_base_class(kind: Any) -> None:
    assert issubclass(kind, InstanceNorm)


def test_get_model_unwraps() -> None:
    model = nn.Linear(1, 1)
    assert get_model(MMDataParallel(model)) is get_model(model) is model


def test_get_dist_info_of_a_single_process() -> None:
    assert get_dist_info() == (0, 1)


def test_init_dist_passes_backend_timeout_and_port(monkeypatch: pytest.MonkeyPatch) -> None:
    joined: list[object] = []
    monkeypatch.setattr("footplate.first_generation.adapters.utils.initialize", lambda *given: joined.append(given))
    init_dist("pytorch", backend="gloo", port=29500, rank=3)
    init_dist("none")
    assert joined == [("pytorch", {"backend": "gloo", "port": 29500}), ("none", None)]


def test_get_logger_returns_a_child_of_footplates_logger(tmp_path: Path) -> None:
    logger = get_logger("mine", str(tmp_path / "mine.log"), logging.WARNING)
    logger.info("not this")
    logger.warning("this")
    text = (tmp_path / "mine.log").read_text()
    assert logger.name == "footplate.mine"
    assert "this" in text
    assert "not this" not in text


def test_get_root_logger_returns_footplates_logger(tmp_path: Path) -> None:
    logger = get_root_logger(str(tmp_path / "run.log"))
    assert logger is logging.getLogger("footplate")
    logger.info("a line")
    assert "a line" in (tmp_path / "run.log").read_text()


def test_same_log_file_is_added_once(tmp_path: Path) -> None:
    path = str(tmp_path / "run.log")
    for _ in range(3):
        logger = get_root_logger(path)
    logger.info("once")
    assert (tmp_path / "run.log").read_text().count("once") == 1


def test_no_log_file_by_default(tmp_path: Path) -> None:
    before = list(logging.getLogger("footplate").handlers)
    assert get_root_logger().handlers == before
    assert list(tmp_path.iterdir()) == []
