import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks import host_names

NAMES = Path(__file__).parents[1] / "data" / "vectors" / "mmengine_names.txt"


@pytest.fixture(autouse=True)
def _uninstalled() -> Iterator[None]:
    yield
    for title in [title for title in sys.modules if title.partition(".")[0] == "mmcv"]:
        del sys.modules[title]


@pytest.fixture
def operators(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed mmcv with three operators."""
    files = {
        "__init__": "",
        "ops/__init__": "from .nms import batched, nms\nfrom .pool import pool\nfrom .both import both\n",
        "ops/nms": "from ..utils import loader\next = loader.load_ext('_ext', ['nms', 'softnms'])\nnms = batched = 1\n",
        "ops/pool": "from ..utils import loader\next = loader.load_ext('_ext', ['prroi_pool_forward'])\npool = 1\n",
        "ops/both": "from . import pool\nfrom .nms import nms\nboth = 1\n",
        "utils/__init__": "",
        "utils/loader": "def load_ext(name, functions): return functions\n",
    }
    for name, text in files.items():
        file = tmp_path / f"installed/mmcv/{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path / "installed"))


def test_names_of_a_folder(tmp_path: Path, operators: None, capsys: pytest.CaptureFixture[str]) -> None:
    code = tmp_path / "code"
    (code / "deep").mkdir(parents=True)
    (code / ".git").mkdir()
    (code / ".git/hidden.py").write_text("import mmengine.hidden\n")
    (code / "one.py").write_text(
        "import mmengine, numpy\n"
        "from mmengine import hooks\n"
        "from mmengine.runner import Runner, Walker\n"
        "from .mmengine import own\n"
        "mmengine.Config.fromfile('x')\n"
        "hooks.Hook(), hooks.lode('x')\n"
        "mmengine.registry.MODELS.build({})\n"
        "Runner.from_cfg({})\n"
    )
    (code / "deep/two.py").write_text(
        "def later():\n    from mmengine.runner import Walker\n"
        "    import mmengine.nonsense as other\n    other.call()\n"
        "    from mmcv.ops import batched, both\n    from mmcv.ops.nms import nms\n"
        "    import mmcv.ops as o\n    o.pool()\n"
    )
    (code / "broken.py").write_text("print 'Python 2'\n")
    assert host_names.main([str(code)]) == 1
    shown, errors = capsys.readouterr()
    assert shown.splitlines() == [
        "mmcv.ops:both               1  needs prroi_pool_forward",
        f"    {code}/deep/two.py:5",
        "mmcv.ops:pool               1  needs prroi_pool_forward",
        f"    {code}/deep/two.py:8",
        "mmengine.hooks:lode         1  there is no mmengine.hooks.lode",
        f"    {code}/one.py:6",
        "mmengine.nonsense:          1  there is no mmengine.nonsense",
        f"    {code}/deep/two.py:3",
        "mmengine.runner:Walker      2  there is no mmengine.runner.Walker",
        f"    {code}/deep/two.py:2, {code}/one.py:3",
        "mmengine: 6 of 9 names are available (10 sites)",
        "mmcv.ops: 3 of 5 names are available (5 sites)",
    ]
    assert errors.startswith(f"'{code}/broken.py' is skipped: it is not valid for this version of Python: ")


@pytest.mark.skipif(find_spec("mmengine") is None, reason="needs MMEngine, whose files have some of the names")
def test_all_names_of_the_list_are_available(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = tmp_path / "names.jsonl"
    names.write_text("".join(f'{{"name": "{name}"}}\n' for name in NAMES.read_text().split()))
    assert host_names.main([str(names)]) == 0
    assert capsys.readouterr().out == "mmengine: 371 of 371 names are available (371 sites)\n"


def test_operators_need_mmcv(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.py").write_text("from mmcv.ops import nms\nfrom mmcv.runner import Hook\n")
    assert host_names.main([str(tmp_path / "a.py"), "--all"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "mmcv.ops:nms          1  mmcv is not installed",
        f"    {tmp_path}/a.py:1",
        "mmcv.runner:Hook      1  available",
        "mmcv: 1 of 1 names are available (1 site)",
        "mmcv.ops: 0 of 1 names are available (1 site)",
    ]


def test_a_path_without_code_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "missing"
    with pytest.raises(SystemExit) as ended:
        host_names.main([str(tmp_path / name)])
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"error: there are no Python files in '{tmp_path / name}'\n"
