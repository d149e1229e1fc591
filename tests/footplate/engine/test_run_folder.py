import errno
import json
import logging
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from footplate import Runner
from footplate.distributed import failures
from footplate.engine.control.run_folder import locked
from footplate.engine.run import folder_opening
from footplate.engine.run.run_scope import running
from footplate.errors import ArgumentError, StorageError
from tests.support import settings


def hold(folder: str, ready: Any) -> None:
    with locked(folder):
        if os.fork() == 0:  # simulates a worker that outlives its run
            ready.set()
            signal.alarm(20)
            signal.pause()
        signal.pause()


def test_second_run_in_a_work_dir_raises_until_the_first_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("SLURM_PROCID", "0"), ("SLURM_STEP_NUM_TASKS", "2")):
        monkeypatch.setenv(name, value)
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=hold, args=(str(tmp_path), ready), daemon=True)  # ends with a failed test
    process.start()
    ready.wait(20)
    runner = Runner(**settings(tmp_path))
    with pytest.raises(ArgumentError, match="another run is using the folder") as caught:
        runner.train()
    assert caught.value.key == "work_dir"
    assert caught.value.notes[0].startswith(f"process {process.pid} on ")
    assert caught.value.notes[1].endswith("If both processes belong to the same run, set launcher='slurm'.")
    assert list(tmp_path.iterdir()) == [tmp_path / ".lock"]
    process.kill()
    process.join()
    assert runner.train() is runner.model


def test_file_system_without_locks_logs_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(lock: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    with locked(str(tmp_path)):
        pass
    assert caplog.messages == [
        f"The folder '{tmp_path}' cannot be locked (No locks available). A second run in it would not be detected."
    ]


def test_checkpoints_of_two_runs_do_not_go_to_one_folder(tmp_path: Path) -> None:
    """The folder below out_dir has the name of the work_dir."""
    hooks = {"checkpoint": {"interval": 1, "out_dir": str(tmp_path / "out")}}
    with locked(str(tmp_path / "out/run")):
        context = multiprocessing.get_context("fork")
        process = context.Process(target=_refused, args=(settings(tmp_path / "b/run", default_hooks=hooks),))
        process.start()
        process.join()
        assert process.exitcode == 0
    Runner(**settings(tmp_path / "b/run", default_hooks=hooks)).train()
    assert sorted(each.name for each in (tmp_path / "out/run").iterdir()) == [
        "epoch_1.pth",
        "epoch_2.pth",
        "epoch_3.pth",
    ]


def _refused(cfg: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match="another run is using the folder '.*out/run'") as caught:
        Runner(**cfg).train()
    assert caught.value.key == "default_hooks.checkpoint.out_dir"
    assert caught.value.notes[-1] == "Use another folder, or stop the other run."


def record(text: str) -> logging.LogRecord:
    return logging.LogRecord("footplate", logging.WARNING, __file__, 1, text, None, None)


def open_and_say(runner: Any, *said_before: str) -> None:
    runner.folder.records = [record(text) for text in said_before]
    with running(runner, runner.resume_plan, for_training=False):
        logging.getLogger("footplate.engine").warning("within")
        try:
            raise ValueError("a label is out of range")
        except ValueError:
            logging.getLogger("footplate.engine").exception("it failed")
    logging.getLogger("footplate.engine").warning("behind")


def test_first_rank_writes_the_log_and_the_environment(tmp_path: Path) -> None:
    runner = Runner(**settings(tmp_path, log_level="INFO"))
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


UNREADABLE = StorageError("the shard cannot be read")
UNREADABLE.__cause__ = ConnectionError("Connection refused")
LOST = f"The run failed: {failures.LOST_RANK}; see the terminal and rank_*.log"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("[gloo/pair.cc:535] Connection closed by peer [::1]:3"), [LOST]),
        (UNREADABLE, ["The run failed: the shard cannot be read"]),
    ],
)
def test_error_that_ended_the_run_is_logged_to_the_file_only(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    told: list[str],
) -> None:
    runner = Runner(**settings(tmp_path, log_level="INFO"))
    monkeypatch.setattr(failures, "get_world_size", lambda: 2)
    with pytest.raises(type(error)), running(runner, runner.resume_plan, for_training=False):
        raise error
    lines = Path(runner.log_dir, f"{runner.timestamp}.log").read_text().splitlines()
    assert [line.partition(" - ERROR - ")[2] for line in lines if " - ERROR - " in line] == told
    assert "ended by" not in "".join(capsys.readouterr())


def test_other_rank_writes_only_its_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = Runner(**settings(tmp_path, log_level="INFO"))
    monkeypatch.setattr(folder_opening, "is_main_process", lambda: False)
    monkeypatch.setattr(folder_opening, "get_rank", lambda: 3)
    open_and_say(runner, "said before")
    assert sorted(each.name for each in Path(runner.log_dir).iterdir())[1:] == ["rank_3.log", "rank_3.warnings.jsonl"]
    text = Path(runner.log_dir, "rank_3.log").read_text()
    assert "ValueError: a label is out of range" in text
    assert not [word for word in ("said before", "within", "no error", "behind") if word in text]
