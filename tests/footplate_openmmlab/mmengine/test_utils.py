import logging
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from footplate.errors import ArgumentError
from footplate.records.logger import get_logger, logging_to, set_level
from footplate_openmmlab.mmengine import logging as logs
from footplate_openmmlab.mmengine.runner import turn_on_activation_checkpointing
from footplate_openmmlab.mmengine.weights import constant_init


def test_an_initializer_drops_no_argument() -> None:
    layer = nn.Linear(2, 2)
    constant_init(layer, 3.0, 1.0)
    assert (layer.weight[0, 0].item(), layer.bias[0].item()) == (3.0, 1.0)
    with pytest.raises(ValueError, match="longer"):
        constant_init(layer, 3.0, 1.0, 2.0)


@pytest.mark.parametrize("names", ["1.0", ["0", "1.0"]])
def test_activation_checkpointing_is_turned_on_by_name(names: str | list[str]) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2)))
    turn_on_activation_checkpointing(model, names)
    model(torch.ones(1, 2)).sum().backward()
    found = {name for name, module in model.named_modules() if hasattr(module, "checkpointed_name")}
    assert found == ({names} if isinstance(names, str) else set(names))
    with pytest.raises(ArgumentError):
        turn_on_activation_checkpointing(model, "1x0")


def test_lines_of_mmlogger_are_in_the_log_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    set_level("INFO")
    with logging_to(str(tmp_path / "run.log")):
        logs.print_log("a table", logger=logs.MMLogger.get_instance("detector"))
        logs.print_log("its legend", logger="detector")
        logs.print_log("a note", logger="unknown")
    text = (tmp_path / "run.log").read_text()
    assert text == capsys.readouterr().out
    assert re.fullmatch(
        r"\S+ \S+ - mmengine - INFO - a table\n\S+ \S+ - mmengine - INFO - its legend\n"
        r"\S+ \S+ - footplate - INFO - a note\n",
        text,
    )


def test_a_script_without_a_run_sees_what_it_logs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = logging.getLogger("footplate")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "level", logging.NOTSET)
    logs.MMLogger("tool").info("12 boxes")
    logs.print_log("14 masks", logger="current")
    assert [line.rpartition(" - ")[2] for line in capsys.readouterr().out.splitlines()] == ["12 boxes", "14 masks"]


def test_print_log(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "footplate"):
        logs.print_log("printed")
        logs.print_log("nothing", logger="silent")
        logs.print_log("current", logger="current")
        logs.print_log("named", logger="footplate.optim", level=logging.ERROR)
        logs.print_log("given", logger=get_logger())
    out = capsys.readouterr().out
    assert out.startswith("printed\n")
    assert "nothing" not in out
    assert [(each.name, each.levelname, each.message) for each in caplog.records] == [
        ("footplate", "INFO", "current"),
        ("footplate.optim", "ERROR", "named"),
        ("footplate", "INFO", "given"),
    ]
