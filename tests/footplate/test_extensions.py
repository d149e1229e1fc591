"""Packages plug into the engine with entry points, and each of footplate's packages works without the others."""

import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests import programs
from tests.modules import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_GROUPS = ("footplate.extensions", "footplate.commands")
_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
_TRAINS_A_MODULE = """
import torch
from footplate import Runner

data = [(torch.ones(4), 1)] * 8
loader = torch.utils.data.DataLoader(data, batch_size=4)
runner = Runner(
    model=torch.nn.Linear(4, 2), loss=torch.nn.CrossEntropyLoss(), train_dataloader=loader,
    optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.1)), train_cfg=dict(max_epochs=1), work_dir="out",
)
runner.train()
print(runner.iter)
"""
_SECOND_GENERATION = """
import footplate_openmmlab
footplate_openmmlab.install()
import torch
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS
from mmengine.runner import Runner

@DATASETS.register_module()
class Points(torch.utils.data.Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        return dict(points=torch.ones(4), labels=1)

@MODELS.register_module()
class Classifier(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 2)

    def forward(self, points, labels, mode):
        return dict(loss=torch.nn.functional.cross_entropy(self.layer(points), labels))

cfg = dict(
    model=dict(type="Classifier"), work_dir="out",
    train_dataloader=dict(batch_size=4, dataset=dict(type="Points"), sampler=dict(type="DefaultSampler"),
                          collate_fn=dict(type="default_collate")),
    train_cfg=dict(by_epoch=True, max_epochs=1), optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.1)),
)
runner = Runner.from_cfg(cfg)
runner.train()
print(runner.iter)
"""


def _write_metadata(folder: Path, name: str, groups: Mapping[str, Mapping[str, str]]) -> None:
    """Writes the metadata of an installed distribution."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [
        line for group in groups for line in (f"[{group}]", *(f"{key} = {groups[group][key]}" for key in groups[group]))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))


def _install(folder: Path, *packages: str) -> None:
    """Links packages of footplate into a folder, with the entry points of these packages only."""
    for package in packages:
        (folder / package).symlink_to(ROOT / "src" / package)
    groups = {group: _PROJECT["entry-points"][group] for group in _GROUPS}
    kept = {
        group: {name: value for name, value in groups[group].items() if value.split(".")[0] in packages}
        for group in groups
    }
    _write_metadata(folder, "footplate", kept)


def _run(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Runs Python with the packages in `folder/site` and those of the environment, but none from the checkout."""
    (folder / "site").mkdir(exist_ok=True)
    # Without the files of site-packages that add the checkout to the path.
    libraries = [path for path in sys.path if path.endswith("site-packages")] or [sysconfig.get_path("purelib")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder / "site"), *libraries])}
    return programs.run(*words, folder=folder, environment=environment, has_site=False)


def test_the_package_in_the_guide_adds_its_parts(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "public-api.md").read_text(encoding="utf-8")
    files = dict(re.findall(r'```\w+ title="(.*?)"\n(.*?)```', text, re.DOTALL))
    site = tmp_path / "site"
    site.mkdir()
    _install(site, "footplate")
    _write_metadata(site, "blobs", tomllib.loads(files.pop("pyproject.toml"))["project"]["entry-points"])
    for name, content in files.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(content)
    done = _run(tmp_path, "-m", "footplate", "blobs")
    assert (done.stdout, done.returncode) == ("64\n", 0), done.stderr
    assert (
        _run(tmp_path, "-m", "footplate", "recipes").stdout.split("\n")[0] == "blobs  Classifies points, in a second."
    )
    done = _run(tmp_path, "-m", "footplate", "train", "blobs", "--work-dir", "out")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "epoch_2.pth").is_file()


@pytest.mark.parametrize(
    ("packages", "code"),
    [
        (["footplate"], _TRAINS_A_MODULE),
        (["footplate", "footplate_openmmlab", "footplate_operators"], _SECOND_GENERATION),
        (["footplate", "footplate_openmmlab", "footplate_vision"], _TRAINS_A_MODULE),
    ],
    ids=["engine", "without vision", "without operators"],
)
def test_a_run_needs_no_other_package(tmp_path: Path, packages: list[str], code: str) -> None:
    (tmp_path / "site").mkdir()
    _install(tmp_path / "site", *packages)
    done = _run(tmp_path, "-c", code)
    assert (done.stdout.split()[-1:], done.returncode) == (["2"], 0), done.stderr


def test_a_recipe_trains_without_the_support_for_openmmlab(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    _install(tmp_path / "site", "footplate", "footplate_vision", "footplate_operators")
    changes = ["train_cfg.max_iters=2", "train_dataloader.batch_size=2", "val_cfg=None", "val_dataloader=None"]
    words = [
        "train",
        "fashion-seg",
        "--no-preflight",
        "--work-dir",
        "out",
        "--cfg-options",
        *changes,
        "val_evaluator=None",
    ]
    done = _run(tmp_path, "-m", "footplate", *words)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "iter_2.pth").is_file()


def test_the_engine_does_not_name_the_other_packages() -> None:
    files = [path for path in (ROOT / "src" / "footplate").rglob("*") if path.suffix in (".py", ".json", ".ini")]
    assert len(files) > 200
    pattern = re.compile(r"footplate_(openmmlab|vision|operators)")
    assert [str(path) for path in files if pattern.search(path.read_text(encoding="utf-8"))] == []


def test_a_plug_in_that_cannot_be_imported_is_named(tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    _install(site, "footplate")
    _write_metadata(site, "blobs", {"footplate.commands": {"blobs": "blobs.commands"}})
    done = _run(tmp_path, "-m", "footplate", "recipes")
    assert "the plug-in 'blobs.commands' of the package 'blobs' cannot be imported" in done.stderr.splitlines()[-1]
