import os
import shlex
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from footplate import Config
from footplate.checkpoint import saver
from footplate.cli.train import resume_command
from footplate.errors import CheckpointError
from tests import programs
from tests.footplate.cli.conftest import Command, environment
from tests.support import TINY


def tree(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {str(each): (each.read_bytes(), each.stat().st_mtime_ns) for each in folder.rglob("*") if each.is_file()}


def weights(path: Path) -> dict[str, list[float]]:
    read = torch.load(path, weights_only=True)
    return {name: value.tolist() for name, value in read["state_dict"].items()}


def test_config_is_trained(tiny: Path, footplate: Command) -> None:
    code, said, errors = footplate("train", "tiny.py")
    work = tiny.parent / "work_dirs/tiny"
    assert (code, errors) == (0, "")
    assert {each.name for each in work.iterdir() if each.is_file()} == {
        *["iter_4.pth", "iter_8.pth", "last_checkpoint", "tiny.py"]
    }
    pointed = (work / "last_checkpoint").read_text()
    assert pointed == str(work / "iter_8.pth")
    assert torch.load(pointed, weights_only=True)["meta"]["iter"] == 8
    log_dir = next(each for each in work.iterdir() if each.is_dir())
    assert said.splitlines()[-3:] == [
        f"log:             work_dirs/tiny/{log_dir.name}/{log_dir.name}.log",
        "last checkpoint: work_dirs/tiny/iter_8.pth",
        "report:          footplate report work_dirs/tiny",
    ]
    assert sum("Iter(train) [" in line for line in said.splitlines()) == 4
    log = (log_dir / f"{log_dir.name}.log").read_text()
    kept = ("environment: python", "hooks run in this order", "before_save_checkpoint")
    assert [(words in log, words in said) for words in kept] == [(True, False)] * 3
    assert "\x1b" not in said


def test_the_same_seed_gives_the_same_numbers(tiny: Path, footplate: Command) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        short = ["--set", "train_cfg.max_iters=2", "--no-preflight"]
        assert footplate("train", "tiny.py", "--work-dir", name, "--seed", seed, *short)[0] == 0
    first, second, third = (weights(tiny.parent / name / "iter_2.pth") for name in "abc")
    assert first == second != third


def test_overrides_reach_the_run_and_its_record(
    tiny: Path, footplate: Command, caplog: pytest.LogCaptureFixture
) -> None:
    sets = ["--set", "train_cfg.max_iters=6", "optim_wrapper.optimizer.lr=0.25", "--set", "+own.key=[1,2]"]
    options = ["--cfg-options", "default_hooks.checkpoint.interval=3", "unknown.key=5"]
    code, _, _ = footplate("train", "tiny.py", "--work-dir", "work", *sets, *options)
    work = tiny.parent / "work"
    cfg = Config.fromfile(str(work / "tiny.py"))
    assert (code, cfg.train_cfg.max_iters, cfg.optim_wrapper.optimizer.lr, cfg.own.key) == (0, 6, 0.25, [1, 2])
    assert cfg.unknown.key == 5
    assert "--cfg-options sets 'unknown.key'" in caplog.text
    assert {each.name for each in work.glob("*.pth")} == {"iter_3.pth", "iter_6.pth"}


def test_amp_enables_mixed_precision(tiny: Path, footplate: Command) -> None:
    kind = "from mmengine.optim import OptimWrapper\n" + TINY
    tiny.write_text(kind.replace("optim_wrapper = dict(", "optim_wrapper = dict(type=OptimWrapper, "))
    assert footplate("train", "tiny.py", "--work-dir", "work", "--amp")[0] == 0
    assert Config.fromfile(str(tiny.parent / "work/tiny.py")).optim_wrapper.type == "AmpOptimWrapper"
    tiny.write_text(TINY.replace("optim_wrapper = dict(", 'optim_wrapper = dict(type="OwnWrapper", '))
    code, _, errors = footplate("train", "tiny.py", "--work-dir", "other", "--amp")
    assert (code, errors.splitlines()[0]) == (
        2,
        "error: --amp needs an optim_wrapper of type OptimWrapper or AmpOptimWrapper",
    )


def test_resuming_a_finished_run_changes_nothing(tiny: Path, footplate: Command) -> None:
    footplate("train", "tiny.py", "--work-dir", "work")
    before, names = tree(tiny.parent / "work"), sorted((tiny.parent / "work").rglob("*"))
    for resume in (["--resume"], ["--resume", "work/iter_8.pth"]):
        code, said, errors = footplate("train", "tiny.py", "--work-dir", "work", *resume)
        assert (code, errors) == (0, "")
        assert "The run is complete: it has trained for 8 iterations, and its configured length is 8." in said
        assert (tree(tiny.parent / "work"), sorted((tiny.parent / "work").rglob("*"))) == (before, names)


def test_exit_code_of_a_run_whose_last_save_failed(
    tiny: Path, footplate: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(plain: Any, path: str) -> None:
        raise CheckpointError(f"cannot save '{path}': No space left on device")

    commit = saver.commit_checkpoint
    monkeypatch.setattr(
        saver, "commit_checkpoint", lambda plain, path: (full if "iter_8" in path else commit)(plain, path)
    )
    code, _, errors = footplate("train", tiny, "--work-dir", "work", "--no-preflight")
    assert code == 4
    assert errors.splitlines()[-1] == (
        "error: training ended, but the last save failed: cannot save "
        f"'{tiny.parent / 'work/iter_8.pth'}': No space left on device; "
        "the last checkpoint, from an earlier save, is work/iter_4.pth"
    )


def test_error_is_the_last_output_whatever_workers_do(tiny: Path) -> None:
    """Without this, torch would raise an error about each ending worker, below the actual error."""
    text = TINY.replace("    batch_size=4,", "    batch_size=4, num_workers=2, timeout=30,", 1)
    tiny.write_text(text + "default_hooks['timer'] = dict(type='KillForTest', iteration='x')\n")
    code = (
        "import sys, tests.support as s; from footplate.cli.main import main;"
        "s.KillForTest.after_train_iter = lambda *a, **k: 1 / 0; sys.exit(main(['train', 'tiny.py', '--no-preflight']))"
    )
    done = programs.run("-c", code, folder=tiny.parent, environment=environment())
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "ZeroDivisionError: division by zero"


def test_config_in_the_folder_starts_the_training_anew(tiny: Path, footplate: Command) -> None:
    assert footplate("train", "tiny.py")[0] == 0
    recorded = tiny.parent / "work_dirs/tiny/tiny.py"
    before = recorded.read_text()
    test = ("test", "work_dirs/tiny/tiny.py", "work_dirs/tiny/iter_8.pth", "--set", "val_dataloader.batch_size=3")
    code, _, said = footplate(*test)
    assert (code, "Keeping" in said, recorded.read_text()) == (0, False, before)
    resume = ("--resume", "work_dirs/tiny/iter_4.pth", "--resume-settings", "take", "--set", "train_cfg.max_iters=12")
    assert footplate("train", "tiny.py", *resume)[0] == 0
    first, resumed = (Config.fromstring(text, ".py").to_dict() for text in (before, recorded.read_text()))
    assert resumed == {**first, "train_cfg": {**first["train_cfg"], "max_iters": 12}}


def test_override_missing_at_resume_is_reported(tiny: Path, footplate: Command) -> None:
    sets = ["--set", "train_cfg.max_iters=6", "optim_wrapper.optimizer.lr=0.2"]
    footplate("train", "tiny.py", "--work-dir", "work", *sets)
    said = footplate("train", "tiny.py", "--work-dir", "work", "--resume", *sets)[1]
    assert "The config differs" not in said
    said = footplate("train", "tiny.py", "--work-dir", "work", "--resume")[1]
    warning = (
        "WARNING - The config has changed since the run was last started: train_cfg.max_iters, "
        "optim_wrapper.optimizer.lr. To keep the original values, "
        "restore the config and repeat the original options.\n"
    )
    assert warning in said
    assert sum(each.read_text().count(warning) for each in Path("work").glob("*/*.log")) == 1


def test_stopped_run_prints_the_resume_command(tiny: Path, footplate: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(self: Any, runner: Any, *_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("tests.support.Witness.after_train_iter", stop)
    code, said, _ = footplate("train", "tiny.py", "--resume", "--set", "optim_wrapper.optimizer.lr=0.2")
    told = [line for line in said.splitlines() if line.startswith("resume:")]
    go_on = "resume:          footplate train tiny.py --set optim_wrapper.optimizer.lr=0.2 --resume"
    assert (code, told) == (130, [go_on])


@pytest.mark.parametrize(
    ("words", "command"),
    [
        ("a.py", "a.py --resume"),
        ("a.py --resume old.pth --seed 3", "a.py --seed 3 --resume"),
        ("a.py --resume --set 'b=[1, 2]' c=3", "a.py --set 'b=[1, 2]' c=3 --resume"),
    ],
)
def test_resume_command_repeats_the_arguments(words: str, command: str) -> None:
    assert resume_command(["train", *shlex.split(words)]) == f"footplate train {command}"


KILLED = "custom_hooks = [dict(type='Witness'), dict(type='KillForTest', iteration=4, priority='LOWEST')]"


def test_killed_command_is_resumed(tiny: Path, trained: Path, footplate: Command) -> None:
    tiny.write_text(TINY.replace('custom_hooks = [dict(type="Witness")]', KILLED))
    command = ["-m", "footplate", "train", "tiny.py", "--work-dir", "work"]
    found = programs.run(*command, folder=tiny.parent, environment=environment())
    assert found.returncode == -signal.SIGKILL
    assert {each.name for each in (tiny.parent / "work").glob("*.pth")} == {"iter_4.pth"}
    tiny.write_text(TINY)
    assert footplate("train", "tiny.py", "--work-dir", "work", "--resume")[0] == 0
    assert weights(tiny.parent / "work/iter_8.pth") == weights(trained / "run/iter_8.pth")


def test_new_length_of_a_first_generation_run_is_the_only_change(tiny: Path, footplate: Command) -> None:
    tiny.write_text(
        'custom_imports = dict(imports=["tests.support"])\nmodel = dict(type="ToyModel")\n'
        'optimizer = dict(type="SGD", lr=0.1)\nlr_config = dict(policy="step", step=[1])\n'
        'runner = dict(type="EpochBasedRunner", max_epochs=1)\n'
        'data = dict(samples_per_gpu=4, workers_per_gpu=0, train=dict(type="Points", size=8))\n'
    )
    footplate("train", "tiny.py")
    said = footplate("train", "tiny.py", "--resume", "--seed", "1", "--set", "runner.max_epochs=2")[1]
    assert ": runner.max_epochs. To keep" in said


def test_first_start_with_resume_loads_the_weights_of_the_config(tiny: Path, trained: Path, footplate: Command) -> None:
    tiny.write_text(f"{TINY}\nload_from = {str(trained / 'run/iter_8.pth')!r}\n")
    code, said, errors = footplate("train", "tiny.py", "--work-dir", "first", "--resume")
    assert (code, errors) == (0, "")
    assert "The run starts with the weights of load_from." in said
    assert f"from '{trained / 'run/iter_8.pth'}'" in said
    code, said, errors = footplate("train", "tiny.py", "--work-dir", "first", "--resume")
    assert (code, "The run is complete" in said) == (0, True)
