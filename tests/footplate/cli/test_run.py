import sys
from pathlib import Path

import pytest

from tests import programs
from tests.footplate.cli.conftest import Command, environment
from tests.support import TINY


@pytest.fixture(autouse=True)
def _restored(current_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["footplate"])
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


def test_option_after_the_script_is_reported(tmp_path: Path, footplate: Command) -> None:
    (tmp_path / "script.py").write_text("import sys\nprint(sys.argv[1:])\n")
    code, out, errors = footplate("run", str(tmp_path / "script.py"), "--nproc=2")
    assert (code, out) == (0, "['--nproc=2']\n")
    assert "write it before SCRIPT" in errors


def test_a_script_sees_what_python_would_give_it(tmp_path: Path, footplate: Command) -> None:
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/fp_neighbor.py").write_text("value = 3\n")
    (tmp_path / "tools/script.py").write_text(
        '"""Its text."""\n'
        "import pickle, sys\n"
        "import fp_neighbor\n"
        "class Sample: pass\n"
        "same = type(pickle.loads(pickle.dumps(Sample()))) is Sample\n"
        "print(__name__, __file__, __doc__, __spec__, sys.argv[1:], sys.path[0], fp_neighbor.value, same)\n"
        "sys.exit(len(sys.argv))\n"
    )
    words = ["tools/script.py", "--help", "--", "--debug", "x y"]
    shown = f"__main__ {tmp_path / 'tools/script.py'} Its text. None {words[1:]} {tmp_path / 'tools'} 3 True\n"
    assert footplate("run", *words) == (5, shown, "")


def test_script_imports_the_package_in_the_current_folder(
    tmp_path: Path, footplate: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tools").mkdir()
    (tmp_path / "fp_project.py").write_text("value = 3\n")
    (tmp_path / "wave.py").write_text("raise ImportError\n")  # does not replace an installed module
    (tmp_path / "tools/script.py").write_text("import wave, fp_project\nprint(fp_project.value)\n")
    monkeypatch.delitem(sys.modules, "wave", raising=False)
    assert footplate("run", "tools/script.py") == (0, "3\n", "")


def test_scripts_use_the_copy_of_a_code_base_in_the_current_folder(
    tmp_path: Path, footplate: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in (tmp_path / "installed/mmdet", tmp_path / "mmdet", tmp_path / "tools"):
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("")
    (tmp_path / "tools/train.py").write_text("import mmdet\nprint(mmdet.__file__)\n")
    monkeypatch.syspath_prepend(tmp_path / "installed")
    try:
        assert footplate("run", "tools/train.py") == (0, f"{tmp_path / 'mmdet/__init__.py'}\n", "")
    finally:
        sys.modules.pop("mmdet", None)


def test_imports_of_mmengine_resolve_to_footplate(tmp_path: Path, footplate: Command) -> None:
    (tmp_path / "script.py").write_text("from mmengine.runner import Runner\nprint(Runner.__module__)\n")
    assert footplate("run", "script.py") == (0, "footplate.engine.run.runner\n", "")


WORKERS = """
import torch
from mmengine.dataset import BaseDataset

class Numbers(BaseDataset):
    def load_data_list(self):
        return [{"value": index} for index in range(4)]

    def prepare_data(self, index):
        return self.get_data_info(index)["value"]

if __name__ == "__main__":
    loader = torch.utils.data.DataLoader(Numbers(), 2, num_workers=1, multiprocessing_context="spawn")
    print([batch.tolist() for batch in loader])
"""


def test_workers_that_import_the_script_find_the_import_names(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(WORKERS)
    done = programs.run("-m", "footplate", "run", "script.py", folder=tmp_path, environment=environment())
    assert done.stdout == "[[0, 1], [2, 3]]\n", done.stderr


@pytest.mark.parametrize(("end", "code"), [("exit()", 0), ("exit(7)", 7)])
def test_the_exit_code_of_the_script_is_that_of_the_command(
    tmp_path: Path, footplate: Command, end: str, code: int
) -> None:
    (tmp_path / "script.py").write_text(f"import sys\nsys.{end}\n")
    assert footplate("run", "script.py") == (code, "", "")


def test_names_removed_from_python_are_restored_in_the_script(tmp_path: Path, footplate: Command) -> None:
    text = "from collections import Sequence\n\nif __name__ == '__main__':\n    print(Sequence.__module__)\n    1 / 0\n"
    (tmp_path / "script.py").write_text(text)
    code, output, errors = footplate("run", "script.py")
    assert (code, output) == (1, "collections.abc\n")
    assert f'File "{tmp_path / "script.py"}", line 5, in <module>\n    1 / 0\n' in errors


def test_functions_that_still_exist_are_unchanged_in_a_script_with_removed_names(
    tmp_path: Path, footplate: Command
) -> None:
    text = "import numpy as np\nimport torch\n\ntorch.save([np.Inf], 'list.pt')\n"
    (tmp_path / "script.py").write_text(text + "print(torch.load('list.pt', weights_only=False))\n")
    assert footplate("run", "script.py") == (0, "[inf]\n", "")


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (
            ["tools/trian.py"],
            "error: there is no script file 'tools/trian.py'\n"
            "  the folder '{tools}' has no 'trian.py'; did you mean 'train.py'?\n",
        ),
        (["tools"], "error: there is no script file 'tools'\n"),
        (
            [],
            "error: the following arguments are required: SCRIPT\nRun `footplate run --help` for usage.\n",
        ),
    ],
)
def test_a_missing_script_is_an_error(tmp_path: Path, footplate: Command, words: list[str], error: str) -> None:
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/train.py").touch()
    assert footplate("run", *words) == (2, "", error.replace("{tools}", str(tmp_path / "tools")))


def test_a_script_may_save_drawn_images_in_any_folder(current_folder: Path, footplate: Command) -> None:
    (current_folder / "tiny.py").write_text(TINY)
    (current_folder / "draw.py").write_text(
        "import sys\nfrom mmengine import Config\nfrom mmengine.runner import Runner\n"
        "cfg = Config.fromfile('tiny.py')\n"
        "cfg.visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')])\n"
        "cfg.visualizer['save_dir'], cfg.work_dir = sys.argv[1], 'work'\n"
        "Runner.from_cfg(cfg).visualizer.add_scalar('a', 1.0)\n"
    )
    for folder in ("shown", str(current_folder / "other")):
        assert footplate("run", "draw.py", folder)[0] == 0
        assert (current_folder / folder / "vis_data" / "scalars.json").is_file()
