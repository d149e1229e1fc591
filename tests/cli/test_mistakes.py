from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import footplate as package
from tests.cli.mistakes import ARGUMENTS, KINDS, RECORDS, TYPES, VALUES, Mistake
from tests.support import TINY

Command = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    "mistake",
    [*TYPES, *ARGUMENTS, *VALUES, *KINDS, *RECORDS],
    ids=lambda each: each.instead.strip().split("\n")[0],
)
def test_mistake_in_a_config_is_reported(tiny: Path, footplate: Command, mistake: Mistake) -> None:
    assert TINY.count(mistake.line) >= 1
    tiny.write_text(TINY.replace(mistake.line, mistake.instead, 1))
    place = TINY[: TINY.index(mistake.line)].count("\n") + 1
    code, _, errors = footplate("train", "tiny.py", "--work-dir", "work")
    lines = errors.splitlines()
    assert code == 2
    assert lines[0].startswith("error: ")
    assert mistake.says in lines[0]
    assert lines[1] == f"  at tiny.py:{place}, key {mistake.key}"
    assert len(lines) <= 5
    assert [line for line in lines if "did you mean" in line] == (
        [f"  did you mean '{mistake.near}'?"] if mistake.near else []
    )
    assert "Traceback" not in errors
    assert [each.name for each in tiny.parent.iterdir() if each.suffix != ".pyc" and each.name != "__pycache__"] == [
        "tiny.py"
    ]


@pytest.mark.parametrize(
    ("arguments", "says", "near"),
    [
        (["--set", "train_cfg.max_iter=3"], "train_cfg.max_iter", "train_cfg.max_iters"),
        (["--set", "optim_wraper.optimizer.lr=3"], "optim_wraper", "optim_wrapper"),
        (["--set", "train_cfg.max_iters"], "train_cfg.max_iters", None),
        (["--set", "=3"], "=3", None),
        (["--set", "param_scheduler.7.end=3"], "param_scheduler", None),
        (["--set", "model.type.name=3"], "model.type", None),
    ],
)
def test_invalid_override_is_reported(
    tiny: Path, footplate: Command, arguments: list[str], says: str, near: str | None
) -> None:
    code, _, errors = footplate("train", "tiny.py", "--work-dir", "work", *arguments)
    lines = errors.splitlines()
    assert (code, len(lines) <= 5, "Traceback" in errors) == (2, True, False)
    assert says in errors
    assert (f"  did you mean '{near}'?" in lines) is (near is not None)
    assert not (tiny.parent / "work").exists()


@pytest.mark.parametrize("command", [["train", "tiny.py", "--resume", "no.pth"], ["test", "tiny.py", "no.pth"]])
def test_missing_checkpoint_is_an_error(tiny: Path, footplate: Command, command: list[str]) -> None:
    code, _, errors = footplate(*command, "--work-dir", "work")
    assert code == 2
    told = f"tried {tiny.parent}/no.pth: relative paths start at the current directory"
    told = f"{told}\n  '{tiny.parent}' has no 'no.pth'\n"
    assert errors == f"error: checkpoint 'no.pth' does not exist\n  at the command line, key load_from\n  {told}"


def test_missing_config_is_reported(tiny: Path, footplate: Command) -> None:
    assert footplate("train", "tin.py")[::2] == (
        2,
        "error: there is no config file or recipe 'tin.py'\n"
        "  did you mean 'tiny.py'?\n"
        "  `footplate recipes` lists the recipes\n",
    )
    assert "did you mean 'fashion-seg'?" in footplate("train", "fashion-sge")[2]


def test_circular_bases_are_reported(tiny: Path, footplate: Command) -> None:
    for name, base in (("a", "b"), ("b", "c"), ("c", "a")):
        (tiny.parent / f"{name}.py").write_text(f"_base_ = './{base}.py'\n")
    code, _, errors = footplate("train", "a.py", "--work-dir", "work")
    assert code == 2
    assert len(errors.splitlines()) <= 5
    assert all(f"{name}.py" in errors for name in "abc")
    assert "at c.py:1" in errors
    assert not (tiny.parent / "work").exists()


@pytest.mark.parametrize(
    ("text", "says", "line"),
    [
        ("model = dict(\n", "", 1),
        ("a = 1\nb = a +\n", "", 2),
        ("a = 1\nb = nothing\n", "nothing", 2),
        ("a = 1\nb = '\0'\n", "null bytes", 2),
    ],
)
def test_config_with_a_syntax_error_is_reported(
    tiny: Path, footplate: Command, text: str, says: str, line: int
) -> None:
    tiny.write_text(text)
    code, _, errors = footplate("train", "tiny.py", "--work-dir", "work")
    assert (code, len(errors.splitlines()) <= 5, "Traceback" in errors) == (2, True, False)
    assert says in errors
    assert f"tiny.py:{line}" in errors


def test_empty_config_is_reported(tiny: Path, footplate: Command) -> None:
    tiny.write_text("# nothing\n")
    code, _, errors = footplate("train", "tiny.py", "--work-dir", "work")
    assert (code, errors) == (2, "error: the config has no 'model'\n  at tiny.py, key model\n")


def test_dict_that_overrides_a_scalar_is_reported_with_its_key_path(tiny: Path, footplate: Command) -> None:
    (tiny.parent / "child.py").write_text("_base_ = ['./tiny.py']\nmodel = dict(type=dict(a=1))\n")
    _, _, errors = footplate("train", "child.py", "--work-dir", "work")
    assert "  at child.py:2, key model.type\n" in errors


def test_first_generation_override_is_corrected(tmp_path: Path, footplate: Command) -> None:
    text = "model = dict(type='ToyModel')\noptimizer = dict(type='SGD', lr=0.1)\ntotal_epochs = 2\n"
    (tmp_path / "old.py").write_text(text + "lr_config = dict(policy='poly', by_epoch='no')\n")
    _, _, errors = footplate("train", tmp_path / "old.py", "--work-dir", tmp_path / "work")
    assert errors.startswith("error: by_epoch must be True or False\n")
    assert "old.py:4, key lr_config.by_epoch\n  found: 'no'\n" in errors


def test_mistake_in_a_base_is_located_there(tiny: Path, footplate: Command) -> None:
    (tiny.parent / "child.py").write_text("_base_ = ['./tiny.py']\ntrain_cfg = dict(val_interval=2)\n")
    tiny.write_text(TINY.replace("dropout=0.1", "droput=0.1"))
    _, _, errors = footplate("train", "child.py", "--work-dir", "work")
    assert "  at tiny.py:2, key model.droput\n" in errors


def test_override_that_changes_the_type_of_a_value_is_an_error(tiny: Path, footplate: Command) -> None:
    _, _, errors = footplate("train", "tiny.py", "--work-dir", "work", "--set", "optim_wrapper.optimizer.lr=fast")
    assert errors.startswith("error: cannot set 'optim_wrapper.optimizer.lr': ")
    assert "must be a number, not 'fast'\n  at tiny.py:24, key optim_wrapper.optimizer.lr\n  found: 0.1\n" in errors


def test_late_mistake_has_at_most_five_lines(tiny: Path, footplate: Command) -> None:
    tiny.write_text(TINY.replace("interval=4),", "interval=4, save_best='acuracy', rule='greater'),"))
    code, _, errors = footplate("train", "tiny.py", "--work-dir", "work")
    assert code == 2
    assert errors.splitlines() == [
        "error: save_best selects the metric 'acuracy', which no evaluator computes",
        "  at tiny.py:32, key default_hooks.checkpoint.save_best",
        "  did you mean 'accuracy'?",
        "  metrics: accuracy",
    ]


def test_debug_keeps_the_traceback(tiny: Path, footplate: Command) -> None:
    tiny.write_text(TINY.replace("dropout=0.1", "droput=0.1"))
    with pytest.raises(TypeError, match="takes no argument 'droput'"):
        footplate("train", "tiny.py", "--work-dir", "work", "--debug")


def test_bug_keeps_its_traceback(tiny: Path, footplate: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    fail: dict[str, Any] = {}
    exec(compile("def train(self):\n    raise ZeroDivisionError('ours')", package.__file__, "exec"), fail)
    monkeypatch.setattr("footplate.engine.Runner.train", fail["train"])
    with pytest.raises(ZeroDivisionError, match="ours"):
        footplate("train", "tiny.py", "--work-dir", "work")
