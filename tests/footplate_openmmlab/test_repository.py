"""`doctor FOLDER` reads made-up repositories, one for each cause, without executing them."""

import json
from pathlib import Path

import pytest

from tests.footplate.cli.conftest import Command

MODEL = "model = dict(type='Own', head=dict(type='Linear'))\ntrain_cfg = dict(max_epochs=1)\n"
CLASS = """\
open('executed', 'w')
from mmengine.registry import MODELS
{}

@MODELS.register_module()
class Own:
    pass
"""
RUNS = {"configs/a.py": MODEL + "custom_imports = dict(imports=['models'])", "models/own.py": CLASS.format("import os")}


def repository(files: dict[str, str]) -> None:
    for name, text in files.items():
        path = Path("repo", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize(
    ("changes", "result", "reason"),
    [
        ({}, "runs", ""),
        ({"configs/a.py": MODEL}, "after", "custom_imports = dict(imports=['models'])"),
        ({"models/own.py": CLASS.format("import shapely_of_no_one, yaml")}, "after", "pip install shapely_of_no_one"),
        ({"models/own.py": CLASS.format("try:\n    import apex_of_no_one\nexcept ImportError: pass")}, "runs", ""),
        (
            {"models/own.py": CLASS.format("from .part import f"), "models/part.py": "import skimage, no_one"},
            "after",
            "pip install no_one scikit-image",
        ),
        (
            {"models/own.py": CLASS.format("from .lost import f")},
            "cannot",
            "models/own.py imports '.lost', which is missing",
        ),
        (
            {
                "models/own.py": CLASS.format("import own_kernels"),
                "ops/setup.py": "setup(ext_modules=[CUDAExtension('own_kernels', ['a.cu'])])",
                "ops/a.cu": "",
            },
            "cannot",
            "needs its own compiled operators: own_kernels",
        ),
        ({"models/own.py": "import os"}, "unknown", "no module that was read registers Own"),
        (
            {"configs/a.py": "_base_ = '../lost.py'\nmodel = dict(a=1)"},
            "cannot",
            "the base '../lost.py' of a.py is missing",
        ),
        ({"models/own.py": CLASS.format("from mmtrack.models import x")}, "after", "pip install -e '.[mmtrack]'"),
        ({"configs/a.py": "_base_ = './b.py'\nmodel = dict(type='Linear')", "configs/b.py": MODEL}, "runs", ""),
        ({"models/own.py": CLASS.format("print 'Python 2'")}, "unknown", "no module that was read registers Own"),
    ],
)
def test_each_cause_is_named(
    current_folder: Path, footplate: Command, changes: dict[str, str], result: str, reason: str
) -> None:
    repository({**RUNS, **changes})
    code, said, _ = footplate("doctor", "repo", "--json")
    (found,) = [outcome for outcome in json.loads(said) if outcome["config"] == "configs/a.py"]
    assert found["result"] == result
    assert found["reason"].startswith(reason)
    assert code == (0 if result in ("runs", "after") else 2)
    assert not Path("executed").exists()


def test_configs_are_grouped_by_what_they_need(current_folder: Path, footplate: Command) -> None:
    repository({**RUNS, **{f"configs/{name}.py": MODEL for name in "bcde"}})
    assert footplate("doctor", "repo")[1] == (
        "repo: 5 configs\n"
        "     1 should run\n"
        "       configs/a.py\n"
        "     4 should run after: custom_imports = dict(imports=['models'])\n"
        "       configs/b.py, configs/c.py, configs/d.py and 1 more\n"
        "The files were only read. `footplate check CONFIG` tries a config.\n"
    )


def test_a_folder_without_configs_is_an_error(current_folder: Path, footplate: Command) -> None:
    repository({"a.py": ""})
    code, _, errors = footplate("doctor", "repo")
    assert (code, "the folder 'repo' contains no configs of models" in errors) == (2, True)
