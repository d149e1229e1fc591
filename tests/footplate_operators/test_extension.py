import subprocess
import sys
from pathlib import Path

_PROGRAM = """
import sys
import footplate_operators

footplate_operators.install()
footplate_operators.install()
from mmcv import _ext

assert _ext.nms.__module__ == "footplate_operators.nms"
assert not [name for name in sys.modules if name.partition(".")[0] == "footplate"]
"""


def test_operators_are_used_by_mmcv_without_footplate(tmp_path: Path) -> None:
    (tmp_path / "mmcv").mkdir()
    (tmp_path / "mmcv" / "__init__.py").touch()
    assert subprocess.run([sys.executable, "-c", _PROGRAM], cwd=tmp_path).returncode == 0
