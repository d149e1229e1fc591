import json
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

import footplate
from footplate import Config, Runner
from footplate.config import apply_overrides
from footplate.engine import run_log
from footplate.engine.signals import EarlyExitError
from footplate.errors import ArgumentError
from tests.support import settings


def record(text: str) -> logging.LogRecord:
    return logging.LogRecord("footplate", logging.WARNING, __file__, 1, text, None, None)


def open_and_say(runner: Any, *said_before: str) -> None:
    with run_log.opened_log(runner, [record(text) for text in said_before], None):
        logging.getLogger("footplate.engine").warning("within")
        try:
            raise ValueError("a label is out of range")
        except ValueError:
            logging.getLogger("footplate.engine").exception("it failed")
    logging.getLogger("footplate.engine").warning("behind")


def test_first_rank_writes_the_log_and_the_environment(tmp_path: Path) -> None:
    runner = Runner(**settings(tmp_path, log_level="INFO"))
    assert not Path(runner.log_dir).exists()
    open_and_say(runner, "said before")
    text = Path(runner.log_dir, f"{runner.timestamp}.log").read_text()
    assert (
        text.index("said before")
        < text.index("environment: ")
        < text.index("seed 7, device cpu")
        < text.index("within")
    )
    assert "ValueError: a label is out of range" in text
    assert "behind" not in text
    facts = json.loads(Path(runner.log_dir, "environment.json").read_text())
    assert {"python", "packages"} <= set(facts)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ArgumentError("the loss is nan", notes=["mend it"]), ["ended by an error: the loss is nan; mend it"]),
        (RuntimeError("no data\nat all"), ["ended by an error: RuntimeError: no data; at all"]),
        (EarlyExitError(), []),
    ],
)
def test_error_that_ended_the_run_is_logged_to_the_file_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], error: Exception, told: list[str]
) -> None:
    runner = Runner(**settings(tmp_path, log_level="INFO"))
    with pytest.raises(type(error)), run_log.opened_log(runner, [], None):
        raise error
    lines = Path(runner.log_dir, f"{runner.timestamp}.log").read_text().splitlines()
    assert [line.partition(" - ERROR - ")[2] for line in lines if " - ERROR - " in line] == told
    assert "ended by" not in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("argv", "shown"),
    [
        (["/usr/bin/footplate", "train", "a.py", "--set", "b=[1, 2]"], "footplate train a.py --set 'b=[1, 2]'"),
        ([footplate.__file__.replace("__init__", "__main__"), "train", "a.py"], "footplate train a.py"),
        (["mine.py", "--fast"], "mine.py --fast"),
    ],
)
def test_log_starts_with_the_command_and_the_number_of_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: list[str], shown: str
) -> None:
    monkeypatch.setattr("sys.argv", argv)
    runner = Runner(**settings(tmp_path, log_level="INFO"))
    open_and_say(runner)
    lines = Path(runner.log_dir, f"{runner.timestamp}.log").read_text().splitlines()
    assert lines[0].endswith(f" - INFO - command: {shown}")
    assert not [each for each in lines if "processes, " in each]
    runner.world_size = 2
    open_and_say(runner)
    assert runner.train_loop is not None
    open_and_say(runner)
    lines = Path(runner.log_dir, f"{runner.timestamp}.log").read_text().splitlines()
    told = [each.rpartition(" - ")[2] for each in lines if " 2 processes" in each]
    assert told == ["2 processes", "2 processes, 8 samples per iteration"]


def test_other_rank_writes_only_its_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = Runner(**settings(tmp_path, log_level="INFO"))
    runner.rank = 3
    monkeypatch.setattr(run_log, "is_main_process", lambda: False)
    with run_log.opened_log(runner, [], None):
        logging.getLogger("footplate.engine").warning("no error")
    assert not Path(runner.log_dir).exists()
    open_and_say(runner, "said before")
    assert [each.name for each in Path(runner.log_dir).iterdir()] == ["rank_3.log"]
    text = Path(runner.log_dir, "rank_3.log").read_text()
    assert "ValueError: a label is out of range" in text
    assert not [word for word in ("said before", "within", "no error", "behind") if word in text]


OPTIMIZER = "optimizer = dict(type='SGD', lr=0.1)\noptim_wrapper = dict(optimizer=optimizer)\n"


@pytest.mark.parametrize(("key", "times"), [("optimizer.lr", 1), ("optim_wrapper.optimizer.lr", 0)])
def test_override_without_effect_logs_a_warning(tmp_path: Path, key: str, times: int) -> None:
    cfg = Config.fromstring(OPTIMIZER, ".py")
    apply_overrides(cfg, [f"{key}=0.2"])
    cfg.merge_from_dict({name: value for name, value in settings(tmp_path).items() if name != "optim_wrapper"})
    runner = Runner.from_cfg(cfg)
    runner.train()
    text = Path(runner.log_dir, f"{runner.timestamp}.log").read_text()
    assert text.count("--set: 'optimizer.lr' has no effect") == times


def test_first_generation_optimizer_override_logs_no_warning(tmp_path: Path) -> None:
    text = "optimizer = dict(type='SGD', lr=0.1)\nrunner = dict(type='EpochBasedRunner', max_epochs=len(optimizer))\n"
    cfg = Config.fromstring(text, ".py")
    apply_overrides(cfg, ["optimizer.lr=0.2"])
    cfg.merge_from_dict({key: settings(tmp_path)[key] for key in ("model", "work_dir", "train_dataloader")})
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.optim_wrapper.optimizer.param_groups[0]["lr"] == 0.2
    assert "no effect" not in Path(runner.log_dir, f"{runner.timestamp}.log").read_text()


def test_records_from_before_the_log_file_are_written_once(tmp_path: Path) -> None:
    deterministic = {"seed": 1, "deterministic": True}
    cfg = settings(tmp_path, randomness=deterministic, env_cfg={"cudnn_benchmark": True}, log_level="INFO")
    try:
        runner = Runner.from_cfg(cfg)
    finally:
        torch.use_deterministic_algorithms(False)
    runner.train()
    lines = Path(runner.log_dir, f"{runner.timestamp}.log").read_text().splitlines()
    assert len([each for each in lines if "deterministic: env_cfg.cudnn_benchmark" in each]) == 1
    assert "deterministic: " in lines[0]


def test_simultaneous_runs_have_different_log_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both choose a name before either creates the folder, as two `footplate test` with the same work_dir may do."""
    monkeypatch.setattr("footplate.engine.run_log.time.strftime", lambda form, *_: "20260101_000000")
    backends = [{"type": "LocalVisBackend"}]
    first, second = (Runner(**settings(tmp_path, visualizer={"vis_backends": backends})) for _ in range(2))
    assert first.timestamp == second.timestamp == "20260101_000000"
    for runner in (second, first):
        runner.test()
        runner.test()
    assert (second.timestamp, first.timestamp) == ("20260101_000000", "20260101_000000_2")
    names = ["20260101_000000", "20260101_000000_2"]
    assert sorted(each.name for each in tmp_path.iterdir()) == names
    for name in names:
        start = tmp_path / name
        assert sorted(each.name for each in start.iterdir()) == [
            f"{name}.json",
            f"{name}.log",
            "environment.json",
            "vis_data",
        ]
        assert (start / "vis_data/config.json").exists()


def test_concurrent_starts_create_different_log_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("footplate.engine.run_log.time.strftime", lambda form, *_: "20260101_000000")
    with ThreadPoolExecutor(8) as pool:
        names = list(
            pool.map(lambda _: run_log.create_log_folder(str(tmp_path / "work"), "20260101_000000"), range(40))
        )
    assert len(set(names)) == 40
    assert {each.name for each in (tmp_path / "work").iterdir()} == set(names)
