"""Tests `footplate check`: the summary of a run, and configs with one mistake each."""

import logging
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from footplate.cli import check as command
from footplate.cli.main import build_parser
from footplate.config import Config
from footplate.errors import ArgumentError
from footplate.extensions import Extension
from footplate.tools.runs import read_run
from tests.footplate.cli.conftest import Command
from tests.support import TINY


class Mistake(NamedTuple):
    """A line of the config, its replacement, and the expected message."""

    line: str
    instead: str
    says: str
    key: str
    near: str | None = None


MISTAKES = [
    Mistake('type="ToyModel"', 'type="ToyModl"', "unknown model 'ToyModl'", "model.type", "ToyModel"),
    Mistake("dropout=0.1", "droput=0.1", "model 'ToyModel' takes no argument 'droput'", "model.droput", "dropout"),
    Mistake("max_iters=8", "max_iters='8'", "'max_iters' must be an integer", "train_cfg.max_iters"),
    Mistake("val_cfg = dict()", "val_cgf = dict()", "unknown key 'val_cgf'", "val_cgf", "val_cfg"),
    Mistake(
        "    batch_size=4,",
        "    batch_size=64, drop_last=True,",
        "the dataset has too few samples for one batch per process (dataset size 16, batch size 64), and drop_last",
        "train_dataloader.drop_last",
    ),
    Mistake("dropout=0.1", "dropout=1.5", "dropout probability has to be between 0 and 1", "model"),
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda each: each.instead.strip().split("\n")[0])
def test_each_mistake_is_reported_with_its_location(tiny: Path, footplate: Command, mistake: Mistake) -> None:
    assert TINY.count(mistake.line) >= 1
    tiny.write_text(TINY.replace(mistake.line, mistake.instead, 1))
    place = TINY[: TINY.index(mistake.line)].count("\n") + 1
    code, _, errors = footplate("check", "tiny.py")
    lines = errors.splitlines()
    assert (code, lines[0].startswith("error: "), len(lines) <= 5, "Traceback" in errors) == (2, True, True, False)
    assert mistake.says in errors
    assert any(line.startswith(f"  at tiny.py:{place}") or f"tiny.py:{place}" in line for line in lines), errors
    assert mistake.key in errors
    if mistake.near:
        assert f"  did you mean '{mistake.near}'?" in lines
    assert {each.name for each in tiny.parent.iterdir() if each.name != "__pycache__"} == {"tiny.py"}


def test_error_of_user_code_is_reported_with_its_line(tiny: Path, footplate: Command) -> None:
    tiny.write_text(TINY.replace('type="ToyModel", dropout=0.1', 'type="ToyModel", num_classes=1'))
    code, _, errors = footplate("check", "tiny.py")
    lines = errors.splitlines()
    assert (code, lines[0]) == (1, "error: IndexError: Target 1 is out of bounds.")
    assert "support.py:" in lines[1]
    assert lines[2] == "  failed stage: training iteration 1"


def test_error_of_a_library_is_reported_with_its_section(tiny: Path, footplate: Command) -> None:
    text = (tiny.parent / "tiny.py").read_text()
    model = 'model = dict(type="SmallSegmentor", num_classes=2)'
    tiny.write_text(text.replace('model = dict(type="ToyModel", dropout=0.1)', model))
    code, _, errors = footplate("check", "tiny.py")
    lines = errors.splitlines()
    assert (code, lines[1:]) == (
        2,
        [
            "  at tiny.py:2, key model",
            "  Check that shapes and dtypes match, for example the numbers of channels and classes",
            "  Batch 1 of val_dataloader contains samples 0, 1, 2 and 1 more.",
            "  --debug shows the traceback",
        ],
    )
    assert lines[0].startswith("error: the trial validation before training fails in SmallSegmentor: TypeError: ")


def test_unwritable_work_dir_is_an_error(tiny: Path, footplate: Command) -> None:
    (tiny.parent / "file").write_text("")
    code, _, errors = footplate("check", "tiny.py", "--work-dir", "file/run")
    assert code == 2
    assert errors.startswith(f"error: '{tiny.parent / 'file'}' is not a writable folder\n")


def test_check_shows_what_a_run_will_do(tiny: Path, footplate: Command) -> None:
    code, text, _ = footplate("check", "tiny.py", "--work-dir", "work")
    assert code == 0
    lines = text.splitlines()
    assert lines[0] == "tiny.py: no problems found"
    assert "model       ToyModel, 58 parameters, 58 trainable" in lines
    assert "group       SGD lr 0.1, momentum 0, weight_decay 0: 4 tensors" in lines
    assert "train data  16 samples, batches of 4, 16 inspected, all of the same size, 4 numbers" in text
    assert "metrics     accuracy" in lines
    assert "checkpoint  every 4 iterations (iter_{}.pth)" in lines
    hooks = next(place for place, line in enumerate(lines) if line.startswith("hooks       Witness, RuntimeInfoHook, "))
    assert " ".join(" ".join(lines[hooks:]).split()).endswith("NonFiniteHook, CheckpointHook")  # the last lines
    assert not (tiny.parent / "work").exists()


def test_picture_of_the_first_batch_is_in_the_work_dir_and_in_the_report(
    tiny: Path, footplate: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = list[Any]()

    def draw(extension: Extension, runner: Any, data_batch: Any) -> Any:
        batches.append(data_batch)
        return np.full((8, 8, 3), 7, np.uint8)

    monkeypatch.setattr(Extension, "draw_batch", draw)
    monkeypatch.setattr("footplate_vision.extension.Vision.draw_batch", draw)
    code, text, _ = footplate("check", "tiny.py", "--work-dir", "work")
    assert (code, len(batches)) == (0, 1)
    assert "picture     work/train_batch_0.png: the first training batch, as the model gets it" in text
    footplate("train", "tiny.py", "--work-dir", "work")
    (image,) = read_run("work").images
    assert (image.name, image.step, image.path) == ("train_batch", 0, Path("work/train_batch_0.png"))


@pytest.mark.filterwarnings("default")
def test_warnings_of_libraries_are_listed_once_at_the_end(tiny: Path, footplate: Command) -> None:
    (tiny.parent / "noisy.py").write_text(
        "import warnings\nfor _ in range(2):\n    warnings.warn('old\\nname', FutureWarning)"
    )
    tiny.write_text(TINY + "custom_imports = dict(imports=['noisy'])\n")
    code, text, errors = footplate("check", "tiny.py", "--work-dir", "work")
    assert (code, "FutureWarning" in errors) == (0, False)
    assert text.splitlines()[0] == "tiny.py: no problems found"
    assert text.count("FutureWarning") == 1
    last = " ".join(text.rpartition("\nlibrary     ")[2].split())
    assert last.endswith("noisy.py:3: FutureWarning: old name")
    sys.modules.pop("noisy")
    code, _, errors = footplate("check", "tiny.py", "--work-dir", "work", "--json")
    assert (code, errors.count("FutureWarning")) == (0, 1)
    sys.modules.pop("noisy")
    code, text, _ = footplate("check", "tiny.py", "--work-dir", "work", "--set", "val_evaluator.type='Unknown'")
    assert (code, text.count("FutureWarning")) == (2, 1)


def test_every_validation_set_is_tried_with_its_largest_batch(tiny: Path, footplate: Command) -> None:
    text = TINY.replace(
        "test_dataloader = val_dataloader", "val_dataloader = dict(a=val_dataloader, b={**val_dataloader})"
    )
    text = (
        text.replace("size=8", "size=6")
        .replace("test_cfg = dict()\n", "")
        .replace("test_evaluator = val_eval", "x = val_eval")
    )
    tiny.write_text(text.replace("val_cfg = dict()", "val_cfg = dict(loss=True)"))
    code, text, errors = footplate("check", "tiny.py", "--work-dir", "work")
    assert code == 0, errors
    for line in ("val a data  6 samples, batches of 4", "val b data  6 samples, batches of 4"):
        assert line in text
    assert "metrics     a/loss, a/accuracy, b/loss, b/accuracy" in text


@pytest.mark.parametrize(("rank", "told"), [("0", "warning     one\n"), ("1", "")])
def test_first_rank_prints_the_warnings_of_a_failed_check(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], rank: str, told: str
) -> None:
    def fail(cfg: Config, *, run: bool) -> str:
        logging.getLogger("footplate.engine").warning("one")
        raise ArgumentError("two")

    monkeypatch.setenv("RANK", rank)
    monkeypatch.setattr("footplate.tools.check.check", fail)
    monkeypatch.setattr(command, "read_run_config", lambda arguments: Config({}))
    with pytest.raises(ArgumentError):
        command.check_run(build_parser().parse_args(["check", "tiny.py", "--work-dir", "work"]))
    assert capsys.readouterr().out == told
