from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest

from footplate import Config
from footplate.cli import migrate
from footplate.cli.main import main
from footplate.openmmlab.first_generation.translation import translate

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


def test_migrated_file_and_report_are_written(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["migrate", "old.py", "-o", "new.py"]) == 0
    new = Config.fromfile("new.py")
    assert new.to_dict() == translate(Config.fromfile(old)).to_dict()
    assert "# tuned" in Path("new.py").read_text()
    assert capsys.readouterr().out.splitlines() == [
        "what each key became:",
        "  old.py:2: optimizer: optim_wrapper",
        "  old.py:3: runner: train_cfg.type, train_cfg.max_epochs",
        "  old.py:4: data: train_dataloader, val_dataset",
        "what cannot be kept:",
        "  old.py:3: runner.turns: 3 has no counterpart and was removed",
        "what you need to check:",
        "  old.py:3: runner.type: 'MyRunner' is not a built-in runner; only its length is kept",
        "  old.py:4: data.val: there is no evaluation section; kept as val_dataset, which is not read",
        "1 file, 1 changed; 2 notes to check",
        f"written: {old.parent / 'new.py'}",
    ]


@pytest.mark.parametrize("flag", ["--diff", "--lint"])
def test_diff_and_lint_write_nothing(old: Path, capsys: pytest.CaptureFixture[str], flag: str) -> None:
    assert main(["migrate", "old.py", flag]) == 0
    assert [path.name for path in old.parent.iterdir()] == ["old.py"]
    out = capsys.readouterr().out
    assert ("+train_cfg = dict(" in out) is (flag == "--diff")
    assert ("old.py:3: runner:" in out) is (flag == "--lint")


def test_tree_gets_a_report(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (old.parent / "configs/sub").mkdir(parents=True)
    (old.parent / "configs/sub/run.py").write_text(OLD)
    assert main(["migrate", "--tree", "configs"]) == 0
    out = capsys.readouterr().out
    assert "what each key became: configs_migrated/migration-report.txt" in out
    assert "runner.type: 'MyRunner'" in out
    assert "optimizer: optim_wrapper" not in out
    report = Path("configs_migrated/migration-report.txt").read_text()
    assert "configs/sub/run.py:2: optimizer: optim_wrapper" in report
    assert Config.fromfile("configs_migrated/sub/run.py").train_cfg.max_epochs == 2
    assert main(["migrate", "--tree", "configs", "-o", "there"]) == 0
    assert Path("there/sub/run.py").exists()


BAD: dict[str, bytes] = {
    "mixed.py": b"optim_wrapper = dict()\nlr_config = dict(policy='fixed')\n",
    "second.py": b"optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))\n",
    "typo.py": b"runner = dict(max_epochs=1)\nlr_config = dict(policy='setp')\n",
    "there.py": b"mine = 1\n",
}


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        ([], ["migrate needs either one config or --tree with a folder"]),
        (["odl.py"], ["no config file or recipe 'odl.py'", "did you mean 'old.py'?"]),
        (["mixed.py"], ["keys of both generations", "at mixed.py:2", "lr_config"]),
        (["second.py"], ["has no first-generation keys", "at second.py:1"]),
        (["typo.py"], ['unknown policy "setp"', "at typo.py:2, key lr_config.policy", "did you mean 'step'?"]),
        (["old.py", "-o", "old.py"], ["the output would overwrite the input"]),
        (["old.py", "-o", "folder"], ["the output file name must end in .py"]),
        (["old.py", "-o", "there.py"], ["there.py' already exists", "Use --force to replace it."]),
        (["--tree", "folder"], ["there is no .py file in this folder or its subfolders"]),
        (["--tree", ".", "-o", "below"], ["the output would overwrite the input"]),
    ],
)
def test_mistakes_are_reported_in_a_few_lines(
    old: Path, footplate: Callable[..., tuple[int, str, str]], arguments: list[str], messages: list[str]
) -> None:
    for name, content in BAD.items():
        Path(name).write_bytes(content)
    Path("folder").mkdir()
    Path("circle.py").symlink_to("circle.py")
    before = {path: path.is_file() and path.read_bytes() for path in old.parent.rglob("*")}
    code, out, error = footplate("migrate", *arguments)
    assert (code, out) == (2, "")
    assert not [message for message in messages if message not in error], error
    assert len(error.splitlines()) <= 5
    assert {path: path.is_file() and path.read_bytes() for path in old.parent.rglob("*")} == before


def test_unwritable_folder_is_named(
    old: Path, footplate: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("pathlib.Path.mkdir", Mock(side_effect=PermissionError(13, "Permission denied", "locked")))
        code, _, error = footplate("migrate", "old.py", "-o", "locked/new.py")
    assert (code, error) == (2, "error: cannot use 'locked': Permission denied\n")
    assert [path.name for path in old.parent.rglob("*") if path.is_file()] == ["old.py"]


def test_recipe_is_migrated_to_the_current_folder(old: Path) -> None:
    assert main(["migrate", "fashion-seg-v0"]) == 0
    assert (old.parent / "fashion-seg-v0_migrated.py").is_file()


@pytest.fixture
def installed(old: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the folder of the installed package, with an old config in it."""
    folder = old.parent / "package"
    (folder / "configs").mkdir(parents=True)
    (folder / "configs/old-one.py").write_text(OLD)
    monkeypatch.setattr(migrate, "_PACKAGE", folder.resolve())
    return folder


@pytest.mark.parametrize(
    ("arguments", "written"),
    [
        (["package/configs/old-one.py"], ["old-one_migrated.py"]),
        (["--tree", "package/configs"], ["configs_migrated/migration-report.txt", "configs_migrated/old-one.py"]),
        (["package/configs/old-one.py", "-o", "package/new.py"], ["package/new.py"]),
    ],
)
def test_nothing_is_written_into_the_package_unless_it_is_named(
    installed: Path, arguments: list[str], written: list[str]
) -> None:
    before = {path for path in installed.parent.rglob("*") if path.is_file()}
    assert main(["migrate", *arguments]) == 0
    after = {path for path in installed.parent.rglob("*") if path.is_file()}
    assert sorted(str(path.relative_to(installed.parent)) for path in after - before) == written
