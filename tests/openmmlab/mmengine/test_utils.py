import itertools
import logging
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from footplate import Runner
from footplate.errors import ArgumentError, ConfigError
from footplate.openmmlab.mmengine import managers, progress, utils
from footplate.openmmlab.mmengine.data import LabelData, convert_overlay_heatmap
from footplate.openmmlab.mmengine.runner import turn_on_activation_checkpointing
from footplate.openmmlab.mmengine.weights import constant_init, convert_sync_batchnorm
from footplate.records.logger import get_logger, logging_to, set_level
from tests.support import PointAccuracy, settings


def test_versions_compare_as_versions() -> None:
    versions = [
        "1.0.0dev1",
        "1.0.0a1",
        "1.0.0b2",
        "1.0.0rc1",
        "1.0.0rc10",
        "1.0",
        "1.0.0.post1",
        "1.0.1",
        "1.10",
        "2.0.0rc4",
    ]
    digits = [utils.digit_version(version) for version in versions]
    assert digits == sorted(digits)
    assert utils.digit_version("1.0") == utils.digit_version("1.0.0+cu118") == (1, 0, 0, 0, 0, 0)
    assert utils.digit_version("2.1.0rc2") == (2, 1, 0, 0, -1, 2)
    assert utils.parse_version_info("2.1.0rc2", 3) == (2, 1, 0, "rc", 2)
    with pytest.raises(ValueError, match="Invalid version: 'abc'"):
        utils.digit_version("abc")


def test_an_initializer_drops_no_argument() -> None:
    layer = nn.Linear(2, 2)
    constant_init(layer, 3.0, 1.0)
    assert (layer.weight[0, 0].item(), layer.bias[0].item()) == (3.0, 1.0)
    with pytest.raises(ValueError, match="longer"):
        constant_init(layer, 3.0, 1.0, 2.0)


def test_the_second_argument_of_convert_sync_batchnorm_is_not_the_process_group() -> None:
    layer = convert_sync_batchnorm(nn.BatchNorm1d(2), "torch")
    assert (type(layer), layer.process_group) == (nn.SyncBatchNorm, None)


def test_packages() -> None:
    assert utils.is_installed("PyYAML")
    assert utils.is_installed("yaml")
    assert not utils.is_installed("no-such-package")
    assert utils.get_installed_path("yaml") == str(Path(sys.modules["yaml"].__file__ or "").parent)
    with pytest.raises(ConfigError, match="'no-such-package'"):
        utils.get_installed_path("no-such-package")


def test_programs_and_methods() -> None:
    with pytest.raises(RuntimeError, match="'no-such-program, no-such' must be installed to use 'double'"):
        utils.requires_executable(["no-such-program", "python", "no-such"])(double)(2)
    assert utils.requires_executable("python")(double)(2) == 4
    assert utils.has_method(obj=[], method="append")
    assert not utils.has_method(nn.BatchNorm1d(2), "eps")


class LoggingAccuracy(PointAccuracy):
    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        managers.MMLogger.get_current_instance().info("a table")
        return super().compute_metrics(results)


def test_a_metric_that_was_silent_in_the_preflight_logs_afterwards(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Runner(**{**settings(tmp_path, preflight=True), "val_evaluator": LoggingAccuracy()}).train()
    assert caplog.messages.count("a table") == 3


def test_timers(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(time, "time", itertools.count(100.0).__next__)
    timer = progress.Timer()  # starts at 100
    assert (timer.since_last_check(), timer.since_start()) == (1.0, 2.0)
    with progress.Timer(start=False, print_tmpl="{:.1f} s"):
        pass
    assert capsys.readouterr().out == "1.0 s\n"


def double(number: int) -> int:
    return number * 2


@pytest.mark.parametrize(
    "track",
    [
        lambda tasks: progress.track_progress(double, tasks),
        lambda tasks: progress.track_parallel_progress(double, tasks, nproc=2),
        lambda tasks: progress.track_parallel_progress(double, tasks, nproc=2, skip_first=True),
        lambda tasks: progress.track_progress_rich(double, tasks),
        lambda tasks: progress.track_progress_rich(double, tasks, nproc=2),
    ],
)
def test_progress(track: Callable[[Any], list[int]], capsys: pytest.CaptureFixture[str]) -> None:
    assert track([1, 2, 3]) == [2, 4, 6]
    assert capsys.readouterr().out


@pytest.mark.parametrize("names", ["1.0", ["0", "1.0"]])
def test_activation_checkpointing_is_turned_on_by_name(names: str | list[str]) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2)))
    turn_on_activation_checkpointing(model, names)
    model(torch.ones(1, 2)).sum().backward()
    found = {name for name, module in model.named_modules() if hasattr(module, "checkpointed_name")}
    assert found == ({names} if isinstance(names, str) else set(names))
    with pytest.raises(ArgumentError):
        turn_on_activation_checkpointing(model, "1x0")


def test_a_heat_map_is_blended_with_the_image() -> None:
    channel = np.array([[0.0, 1.0]])
    colors = convert_overlay_heatmap(torch.tensor(channel)[None])
    assert colors.tolist() == [[[0, 0, 127], [127, 0, 0]]]
    white = np.full((1, 2, 3), 255, np.uint8)
    assert convert_overlay_heatmap(channel, white, alpha=1.0).tolist() == colors.tolist()
    assert convert_overlay_heatmap(channel, white, alpha=0.0).tolist() == white.tolist()


def test_lines_of_mmlogger_are_in_the_log_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    set_level("INFO")
    with logging_to(str(tmp_path / "run.log")):
        managers.print_log("a table", logger=managers.MMLogger.get_instance("detector"))
        managers.print_log("its legend", logger="detector")
        managers.print_log("a note", logger="unknown")
    text = (tmp_path / "run.log").read_text()
    assert text == capsys.readouterr().out
    assert re.fullmatch(
        r"\S+ \S+ - mmengine - INFO - a table\n\S+ \S+ - mmengine - INFO - its legend\n"
        r"\S+ \S+ - footplate.unknown - INFO - a note\n",
        text,
    )


def test_print_log(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "footplate"):
        managers.print_log("printed")
        managers.print_log("nothing", logger="silent")
        managers.print_log("current", logger="current")
        managers.print_log("named", logger="footplate.optim", level=logging.ERROR)
        managers.print_log("given", logger=get_logger())
    assert capsys.readouterr().out == "printed\n"
    assert [(each.name, each.levelname, each.message) for each in caplog.records] == [
        ("footplate", "INFO", "current"),
        ("footplate.optim", "ERROR", "named"),
        ("footplate", "INFO", "given"),
    ]


@pytest.mark.parametrize(("label", "onehot"), [([0, 2], [1, 0, 1, 0]), ([], [0, 0, 0, 0])])
def test_conversion_between_indices_and_onehot(label: list[int], onehot: list[int]) -> None:
    labels = torch.tensor(label, dtype=torch.int64)
    assert LabelData.label_to_onehot(labels, 4).tolist() == onehot
    assert LabelData.onehot_to_label(torch.tensor(onehot)).tolist() == label


@pytest.mark.parametrize("label", [torch.tensor([4]), torch.tensor([-1, 0])])
def test_label_out_of_range_is_refused(label: Tensor) -> None:
    with pytest.raises(ArgumentError, match="labels must be between 0 and 3"):
        LabelData.label_to_onehot(label, 4)
