from pathlib import Path

import footplate_openmmlab as openmmlab
from footplate import Config


def test_a_config_reads_another_one_with_the_imported_class(tmp_path: Path) -> None:
    openmmlab.install()
    (tmp_path / "other.py").write_text("depth = 50")
    path = tmp_path / "main.py"
    path.write_text(f"from mmengine import Config\ndepth = Config.fromfile({str(tmp_path / 'other.py')!r}).depth")
    assert Config.fromfile(path).depth == 50
