import contextlib
import errno
import json
import logging
import multiprocessing
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

import footplate
from footplate import Config, Hook, Runner
from footplate.config import apply_overrides
from footplate.engine import run_folder
from footplate.engine.run_folder import Restart, locked
from footplate.engine.signals import EarlyExitError
from footplate.errors import ArgumentError
from tests.support import settings


def hold(folder: str, ready: Any) -> None:
    with locked(folder):
        if os.fork() == 0:  # simulates a worker that outlives its run
            ready.set()
            for descriptor in range(64):
                with contextlib.suppress(OSError):
                    if not os.path.samestat(os.fstat(descriptor), os.stat(f"{folder}/.lock")):
                        os.close(descriptor)
            signal.alarm(20)
            signal.pause()
        signal.pause()


def test_second_run_in_a_work_dir_raises_until_the_first_dies(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=hold, args=(str(tmp_path), ready))
    process.start()
    ready.wait(20)
    runner = Runner(**settings(tmp_path))
    with pytest.raises(ArgumentError, match="another run uses the folder") as caught:
        runner.train()
    assert caught.value.key == "work_dir"
    assert caught.value.notes[0].startswith(f"process {process.pid} on ")
    assert list(tmp_path.iterdir()) == [tmp_path / ".lock"]
    process.kill()
    process.join()
    assert runner.train() is runner.model


def test_one_run_after_the_other(tmp_path: Path) -> None:
    for _ in range(2):
        Runner(**settings(tmp_path)).train()
    assert not (tmp_path / ".lock").exists()
    with locked(str(tmp_path / "made")):
        assert (tmp_path / "made/.lock").read_text().startswith(f"process {os.getpid()} on ")


def test_errors_of_the_lock_file_name_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    close, number = os.close, errno.ENOSPC

    def refuse(descriptor: int, *rest: int) -> None:
        if rest:
            raise OSError(number, "No space left on device")
        close(descriptor)
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "close", refuse)
        with pytest.raises(RuntimeError, match="^own$"), locked(str(tmp_path)):
            raise RuntimeError("own")
        patched.setattr(os, "ftruncate", refuse)
        with pytest.raises(OSError, match="No space left") as caught, locked(str(tmp_path)):
            pass
    assert caught.value.filename == str(tmp_path / ".lock")


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
    with pytest.raises(ArgumentError, match="another run uses the folder '.*out/run'") as caught:
        Runner(**cfg).train()
    assert caught.value.key == "default_hooks.checkpoint.out_dir"
    assert caught.value.notes[-1] == "Use another work_dir or out_dir, or stop the other run."


def test_out_dir_that_cannot_be_locked_is_reported_by_the_saves(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    hooks = {"checkpoint": {"interval": 1, "out_dir": str(tmp_path / "file")}}
    Runner(**settings(tmp_path / "run", default_hooks=hooks)).train()
    assert sum(each.startswith("The checkpoint was not saved: cannot save") for each in caplog.messages) == 3


def test_lock_of_another_run_is_not_removed(tmp_path: Path) -> None:
    with locked(str(tmp_path)):
        (tmp_path / ".lock").rename(tmp_path / "moved")  # as if the folder was removed and another run started in it
        (tmp_path / ".lock").write_text("another")
    assert (tmp_path / ".lock").read_text() == "another"


def test_forked_process_does_not_unlock(tmp_path: Path) -> None:
    here = os.getpid()
    with contextlib.suppress(SystemExit), locked(str(tmp_path)):
        process = os.fork()
        if not process:
            raise SystemExit
        os.waitpid(process, 0)
        assert (tmp_path / ".lock").exists()
    if os.getpid() != here:
        os._exit(0)
    assert not (tmp_path / ".lock").exists()


def test_run_whose_folder_was_recreated_by_another_run_does_not_save(tmp_path: Path) -> None:
    """The folder is moved after the first epoch, and another run locks a new one of that name."""
    place = tmp_path / "run"

    class Mover(Hook):
        def after_train_epoch(self, runner: Runner) -> None:
            if runner.epoch == 1:
                runner.saver.settle()  # a save in the background would create the folder again
                place.rename(tmp_path / "run_old")
                place.mkdir()
                (place / ".lock").write_text("another")

    Runner(**settings(place, custom_hooks=[Mover()])).train()
    assert not list(place.glob("*.pth"))
    assert not (place / "last_checkpoint").exists()
    assert (place / ".lock").read_text() == "another"


@pytest.fixture
def elastic(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    return monkeypatch


def _point(home: Path, name: str, at: float) -> None:
    (home / "last_checkpoint").write_text(str(home / name))
    os.utime(home / "last_checkpoint", (at, at))


def _begin(
    home: Path, count: int, patch: pytest.MonkeyPatch, resume: bool | str = False
) -> tuple[str | None, bool | str]:
    patch.setenv("TORCHELASTIC_RESTART_COUNT", str(count))
    restart = Restart(str(home), str(home))
    found = restart.begins_with("weights.pth", resume)
    restart.record()
    return found


def test_first_start_uses_load_from_and_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _point(tmp_path, "epoch_1.pth", 1.0)
    restart = Restart(str(tmp_path), str(tmp_path))
    assert restart.begins_with("weights.pth", False) == ("weights.pth", False)
    restart.record()
    assert restart.begins_with("weights.pth", False) == ("weights.pth", False)


@pytest.mark.parametrize(("resume", "load_from"), [(True, None), ("auto", "weights.pth")])
def test_resume_warns_about_a_later_start_without_a_checkpoint(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, resume: bool | str, load_from: str | None
) -> None:
    _point(tmp_path, "epoch_6.pth", 1.0)
    Restart(str(tmp_path), str(tmp_path)).begins_with(load_from, resume)
    assert caplog.messages == []
    anew = Restart(str(tmp_path), str(tmp_path))
    anew.begins_with(None, False)
    anew.record()
    assert Restart(str(tmp_path), str(tmp_path)).begins_with(load_from, resume) == (load_from, resume)
    assert caplog.messages == [
        f"{tmp_path}: the latest run in this folder started over and saved no checkpoint. Resuming an earlier run. "
        "To start over, remove `resume` (or `--resume`)."
    ]
    caplog.clear()
    Restart(str(tmp_path), str(tmp_path)).begins_with("other.pth", True)
    _point(tmp_path, "epoch_1.pth", 2.0)
    Restart(str(tmp_path), str(tmp_path)).begins_with(load_from, resume)
    assert caplog.messages == []


def test_run_in_a_new_folder_records_no_pointer(tmp_path: Path) -> None:
    restart = Restart(str(tmp_path), str(tmp_path))
    restart.begins_with(None, False)
    restart.record()
    assert list(tmp_path.iterdir()) == []


def test_restart_resumes_from_a_checkpoint_of_the_run(tmp_path: Path, elastic: pytest.MonkeyPatch) -> None:
    assert _begin(tmp_path, 0, elastic) == ("weights.pth", False)
    _point(tmp_path, "epoch_1.pth", 1.0)
    assert _begin(tmp_path, 1, elastic) == (None, True)
    assert _begin(tmp_path, 2, elastic) == (None, True)


def test_restart_does_not_resume_from_a_checkpoint_of_an_earlier_run(
    tmp_path: Path, elastic: pytest.MonkeyPatch
) -> None:
    _point(tmp_path, "epoch_1.pth", 1.0)
    assert _begin(tmp_path, 0, elastic) == ("weights.pth", False)
    assert _begin(tmp_path, 1, elastic) == ("weights.pth", False)
    _point(tmp_path, "epoch_1.pth", 2.0)  # written by this run under the same name
    assert _begin(tmp_path, 2, elastic) == (None, True)


def test_restart_of_a_resumed_run_resumes_from_any_checkpoint(tmp_path: Path, elastic: pytest.MonkeyPatch) -> None:
    _point(tmp_path, "epoch_1.pth", 1.0)
    assert _begin(tmp_path, 0, elastic, resume=True) == ("weights.pth", True)
    assert _begin(tmp_path, 1, elastic, resume=True) == (None, True)


def test_restart_without_a_checkpoint_starts_over(
    tmp_path: Path, elastic: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _begin(tmp_path, 0, elastic)
    assert _begin(tmp_path, 1, elastic) == ("weights.pth", False)
    assert caplog.messages == ["Restart 1 of 3 by torchrun: the run starts over, because it has saved no checkpoint."]


def record(text: str) -> logging.LogRecord:
    return logging.LogRecord("footplate", logging.WARNING, __file__, 1, text, None, None)


def open_and_say(runner: Any, *said_before: str) -> None:
    with run_folder.opened_log(runner, [record(text) for text in said_before], None):
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
        (ArgumentError("the loss is nan", notes=["mend it"]), ["The run failed: the loss is nan; mend it"]),
        (RuntimeError("no data\nat all"), ["The run failed: RuntimeError: no data; at all"]),
        (EarlyExitError(), []),
    ],
)
def test_error_that_ended_the_run_is_logged_to_the_file_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], error: Exception, told: list[str]
) -> None:
    runner = Runner(**settings(tmp_path, log_level="INFO"))
    with pytest.raises(type(error)), run_folder.opened_log(runner, [], None):
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
    monkeypatch.setattr(run_folder, "get_data_world_size", lambda: 2)
    open_and_say(runner)
    assert runner.train_loop is not None
    open_and_say(runner)
    lines = Path(runner.log_dir, f"{runner.timestamp}.log").read_text().splitlines()
    told = [each.rpartition(" - ")[2] for each in lines if " 2 processes" in each]
    assert told == ["2 processes", "2 processes, 8 samples per iteration"]


def test_other_rank_writes_only_its_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = Runner(**settings(tmp_path, log_level="INFO"))
    runner.rank = 3
    monkeypatch.setattr(run_folder, "is_main_process", lambda: False)
    with run_folder.opened_log(runner, [], None):
        logging.getLogger("footplate.engine").warning("no error")
    assert not Path(runner.log_dir).exists()
    open_and_say(runner, "said before")
    assert sorted(each.name for each in Path(runner.log_dir).iterdir()) == ["rank_3.log", "rank_3.warnings.jsonl"]
    text = Path(runner.log_dir, "rank_3.log").read_text()
    assert "ValueError: a label is out of range" in text
    assert not [word for word in ("said before", "within", "no error", "behind") if word in text]
    with run_folder.opened_log(runner, [], {"max_mb": 0.001, "backups": 1}):
        for number in range(20):
            logging.getLogger("footplate.engine").error("error %d of a rank that fails again and again", number)
    names = {"rank_3.log", "rank_3.1.log", "rank_3.warnings.jsonl", "rank_3.warnings.1.jsonl"}
    assert {each.name for each in Path(runner.log_dir).iterdir()} == names


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
    assert len([each for each in lines if "turns off env_cfg.cudnn_benchmark" in each]) == 1
    assert "randomness.deterministic" in lines[0]


def test_simultaneous_runs_have_different_log_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both choose a name before either creates the folder, as two `footplate test` with the same work_dir may do."""
    monkeypatch.setattr("footplate.engine.run_folder.time.strftime", lambda form, *_: "20260101_000000")
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
    monkeypatch.setattr("footplate.engine.run_folder.time.strftime", lambda form, *_: "20260101_000000")
    with ThreadPoolExecutor(8) as pool:
        names = list(
            pool.map(lambda _: run_folder.create_log_folder(str(tmp_path / "work"), "20260101_000000"), range(40))
        )
    assert len(set(names)) == 40
    assert {each.name for each in (tmp_path / "work").iterdir()} == set(names)
