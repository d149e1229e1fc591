from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.support import TINY


@pytest.mark.parametrize(
    ("arguments", "says", "near"),
    [
        (["--set", "train_cfg.max_iter=3"], "train_cfg.max_iter", "train_cfg.max_iters"),
        (["--set", "=3"], "=3", None),
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


@pytest.mark.parametrize(
    ("command", "place"),
    [
        (["train", "tiny.py", "--resume", "no.pth"], "key load_from"),
        (["test", "tiny.py", "no.pth"], "at the command line, key load_from"),
    ],
)
def test_missing_checkpoint_is_an_error(tiny: Path, footplate: Command, command: list[str], place: str) -> None:
    code, _, errors = footplate(*command, "--work-dir", "work")
    assert code == 2
    tried = f"tried {tiny.parent}/no.pth; relative paths are resolved against the current folder"
    notes = f"{tried}\n  '{tiny.parent}' has no 'no.pth'\n"
    assert errors == f"error: checkpoint 'no.pth' does not exist\n  {place}\n  {notes}"


def test_missing_config_is_reported(tiny: Path, footplate: Command) -> None:
    assert footplate("train", "tin.py")[::2] == (
        2,
        "error: there is no config file or recipe 'tin.py'\n"
        "  did you mean 'tiny.py'?\n"
        "  `footplate recipes` lists the recipes.\n",
    )
    assert "did you mean 'fashion-seg'?" in footplate("train", "fashion-sge")[2]


@pytest.mark.parametrize("command", ["train", "check"])
@pytest.mark.parametrize("call", ["Runner(nn.Linear(1, 1), 'work').train()", "def main():\n    Runner(None, 'work')"])
def test_script_instead_of_a_config_gets_the_command(
    tmp_path: Path, footplate: Command, command: str, call: str
) -> None:
    (tmp_path / "script.py").write_text(f"from torch import nn\nfrom footplate import Hook, Runner\n{call}\n")
    code, _, errors = footplate(command, str(tmp_path / "script.py"))
    assert (code, errors.splitlines()[-1]) == (
        2,
        "  To run a script that builds a Runner, use `footplate run`.",
    )


def test_mistake_in_a_base_is_located_there(tiny: Path, footplate: Command) -> None:
    (tiny.parent / "child.py").write_text("_base_ = ['./tiny.py']\ntrain_cfg = dict(val_interval=2)\n")
    tiny.write_text(TINY.replace("dropout=0.1", "droput=0.1"))
    _, _, errors = footplate("train", "child.py", "--work-dir", "work")
    assert "  at tiny.py:2, key model.droput\n" in errors
