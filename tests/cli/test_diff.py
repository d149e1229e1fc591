from pathlib import Path

import pytest

from footplate import Runner
from footplate.cli.main import main
from footplate.config import Config
from tests.support import ToyModel, settings


def test_differences_are_printed_and_told_by_the_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.py").write_text("a = 1\ncustom_imports = dict(imports=['fp_nope'])\n")
    Path("b.yaml").write_text("custom_imports: {imports: [fp_nope]}\na: 1\n")
    Path("c.py").write_text("_base_ = 'a.py'\na = 2\n")
    assert main(["diff", "a.py", "b.yaml"]) == 0
    assert capsys.readouterr().out == "the configs mean the same\n"
    assert main(["diff", "a.py", "c.py"]) == 1
    assert capsys.readouterr().out == "a\n  - 1  a.py:1\n  + 2  c.py:2\n"
    assert main(["diff", "a.py", "nope.py"]) == 2


def test_a_config_and_what_it_was_migrated_to_mean_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("old.py").write_text(
        "model = dict(type='X')\noptimizer = dict(type='SGD', lr=0.1)\nlr_config = dict(policy='step', step=[2])\n"
        "runner = dict(type='EpochBasedRunner', max_epochs=3)\n"
    )
    assert main(["migrate", "old.py", "-o", "new.py"]) == 0
    capsys.readouterr()
    assert main(["diff", "old.py", "new.py"]) == 0
    assert capsys.readouterr().out == "the configs mean the same\n"


def test_where_a_run_lies_is_no_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, lr in (("a", 1), ("b", 2)):
        folder = tmp_path / name / "20260101_000000/vis_data"
        folder.mkdir(parents=True)
        (folder / "config.py").write_text(f"work_dir = {name!r}\nresume = {name == 'b'}\nlr = {lr}\n")
    assert main(["diff", "a", "b"]) == 1
    assert [line for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")] == ["lr"]


@pytest.mark.parametrize("name", ["iter_8.pth", "model.safetensors", "iter_8.sharded"])
def test_a_checkpoint_is_no_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir() if name.endswith("sharded") else (tmp_path / name).touch()
    assert main(["diff", name, "fashion-seg"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"error: '{name}' is a checkpoint; diff takes a config, a recipe or a work_dir",
        "  `footplate checkpoint show` tells what is in it",
    ]


def test_a_run_from_python_records_its_arguments(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, epochs in (("a", 1), ("b", 2)):
        length = {"by_epoch": True, "max_epochs": epochs}
        Runner(**settings(name, model=ToyModel(), train_cfg=length, default_hooks={"checkpoint": None})).train()
    recorded = Config.fromfile(str(next(Path("a").glob("2*/vis_data/config.py"))))
    assert recorded.train_cfg.to_dict() == {"by_epoch": True, "max_epochs": 1}
    assert recorded.model.startswith("ToyModel(")
    assert "param_scheduler" in recorded
    assert "custom_hooks" not in recorded
    assert main(["diff", "a", "b"]) == 1
    assert "train_cfg.max_epochs" in capsys.readouterr().out.splitlines()


def test_a_folder_without_a_recorded_config_is_no_side_of_a_comparison(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run/20260101_000000/vis_data"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}\n")
    assert main(["diff", str(tmp_path / "run"), str(tmp_path / "run")]) == 2
    assert "holds no config of a run" in capsys.readouterr().err
