from pathlib import Path

import pytest

from footplate import Config
from footplate.cli.main import main
from tests.footplate.cli.conftest import Command

OLD = """\
_base_ = 'base.py'
optimizer = dict(type='SGD', lr=0.01)
runner = dict(type='MyRunner', max_epochs=2, turns=3)
data = dict(samples_per_gpu=2, train=dict(type='A'), val=dict(type='A', text='{{ fileDirname }}'))
"""


@pytest.fixture
def old(current_folder: Path) -> Path:
    path = current_folder / "old.py"
    path.write_text(OLD)
    (current_folder / "base.py").write_text("model = dict(type='Net')\n")
    return path


BAD: dict[str, bytes] = {
    "mixed.py": b"optim_wrapper = dict()\nlr_config = dict(policy='fixed')\n",
    "second.py": b"optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))\n",
    "list.py": b"runner = dict(max_epochs=1)\nlr_config = dict(policy=['step'])\n",
    "there.py": b"mine = 1\n",
}


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (["mixed.py"], ["keys of both generations", "at mixed.py:2", "lr_config"]),
        (["list.py"], ["'policy' in lr_config must be a string", "at list.py:2, key lr_config.policy"]),
        (["old.py", "-o", "old.py"], ["must not be an input"]),
        (["old.py", "-o", "there.py"], ["there.py' already exists", "Use --force to replace it."]),
    ],
)
def test_mistakes_are_reported_in_a_few_lines(
    old: Path, footplate: Command, arguments: list[str], messages: list[str]
) -> None:
    for name, content in BAD.items():
        Path(name).write_bytes(content)
    before = {path: path.is_file() and path.read_bytes() for path in old.parent.rglob("*")}
    code, out, error = footplate("migrate", *arguments)
    assert (code, out) == (2, "")
    assert not [message for message in messages if message not in error], error
    assert len(error.splitlines()) <= 5
    assert {path: path.is_file() and path.read_bytes() for path in old.parent.rglob("*")} == before


def test_migrated_file_names_the_code_base_of_its_model(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, source in {"__init__": "mmcv_maximum_version = '1.8.0'\n", "models/net": "class Net: ...\n"}.items():
        path = old.parent / "packages" / "mmdet" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    monkeypatch.syspath_prepend(str(old.parent / "packages"))
    assert main(["migrate", "old.py", "-o", "new.py"]) == 0
    assert Config.fromfile("new.py")["default_scope"] == "mmdet"
