from pathlib import Path

import pytest

from footplate import Config
from footplate.cli.main import main
from footplate.migration import translate

OLD = """\
model = dict(type='Net')
optimizer = dict(type='SGD', lr=0.01)  # tuned
runner = dict(type='MyRunner', max_epochs=2, turns=3)
data = dict(samples_per_gpu=2, train=dict(type='A'), val=dict(type='A'))
"""


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "old.py"
    path.write_text(OLD)
    return path


def test_the_twin_is_written_and_the_report_says_why(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["migrate", "old.py", "-o", "new.py"]) == 0
    new = Config.fromfile("new.py")
    assert new.to_dict() == translate(Config.fromfile(old)).to_dict()
    assert "# tuned" in Path("new.py").read_text()
    assert capsys.readouterr().out.splitlines() == [
        "what each key became:",
        "  old.py:1: model: itself: LegacyModel gives first-generation code the steps that the loops call",
        "  old.py:2: optimizer: optim_wrapper.optimizer",
        "  old.py:3: runner: train_cfg: EpochBasedTrainLoop, max_epochs=2",
        "  old.py:4: data.train: train_dataloader.dataset, adapted by LegacyDataset",
        "what cannot be kept:",
        "  old.py:3: runner.turns: 3 has no counterpart",
        "what needs a person:",
        "  old.py:3: runner.type: 'MyRunner' is a runner of its own: what it does beside counting is not kept; "
        "did you mean 'Runner'?",
        "  old.py:4: data.val: evaluation does not say by which metric: kept as val_dataset, which nothing reads",
        "1 files, 1 of them change; 2 notes need a person",
        f"written: {old.parent / 'new.py'}",
    ]


@pytest.mark.parametrize("flag", ["--diff", "--lint"])
def test_looking_writes_nothing(old: Path, capsys: pytest.CaptureFixture[str], flag: str) -> None:
    assert main(["migrate", "old.py", flag]) == 0
    assert [path.name for path in old.parent.iterdir()] == ["old.py"]
    out = capsys.readouterr().out
    assert ("+train_cfg = dict(" in out) is (flag == "--diff")
    assert ("old.py:3: runner:" in out) is (flag == "--lint")


def test_a_tree_gets_its_report(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (old.parent / "configs/sub").mkdir(parents=True)
    (old.parent / "configs/sub/run.py").write_text(OLD)
    assert main(["migrate", "--tree", "configs"]) == 0
    out = capsys.readouterr().out
    assert "what each key became: configs_migrated/migration-report.txt" in out
    assert "runner.type: 'MyRunner'" in out
    assert "optim_wrapper.optimizer" not in out
    report = Path("configs_migrated/migration-report.txt").read_text()
    assert "configs/sub/run.py:2: optimizer: optim_wrapper.optimizer" in report
    assert Config.fromfile("configs_migrated/sub/run.py").train_cfg.max_epochs == 2
    assert main(["migrate", "--tree", "configs", "-o", "there"]) == 0
    assert Path("there/sub/run.py").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "migrate takes one config, or --tree and a folder"),
        (["old.py", "--tree", "."], "migrate takes one config, or --tree and a folder"),
        (["odl.py"], "did you mean 'old.py'"),
        (["mixed.py"], "both generations at once"),
        (["bad.py"], "bad.py:1"),
        (["--tree", "empty"], "there is no .py file"),
    ],
)
@pytest.mark.usefixtures("old")
def test_mistakes_are_told_in_a_few_lines(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    Path("mixed.py").write_text("optim_wrapper = dict()\nlr_config = dict(policy='fixed')\n")
    Path("bad.py").write_text("a = (\n")
    Path("empty").mkdir()
    assert main(["migrate", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) <= 5
    assert not list(Path().glob("*_migrated*"))


def test_a_recipe_is_found_by_its_name(old: Path) -> None:
    assert main(["migrate", "fashion-seg-v0", "-o", "seg.py"]) == 0
    assert "optim_wrapper" in Path("seg.py").read_text()
