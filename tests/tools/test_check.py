import re
import tempfile
from pathlib import Path

import pytest

from footplate.config import Config
from footplate.errors import ArgumentError
from footplate.tools.check import check
from tests.distributed.conftest import OnRanks, on_ranks  # noqa: F401 - a fixture
from tests.support import TINY


def told(folder: Path, wrapper: str) -> str:
    tempfile.tempdir = str(folder)
    cfg = Config.fromfile(str(folder / "tiny.py"))
    cfg["work_dir"], cfg["launcher"], cfg["model_wrapper_cfg"] = str(folder / "work"), "pytorch", {"type": wrapper}
    cfg["default_hooks"]["checkpoint"]["interval"] = 1
    return check(cfg).text


def test_check_shows_the_memory_and_the_batch_of_each_rank(tmp_path: Path, on_ranks: OnRanks) -> None:  # noqa: F811
    (tmp_path / "tiny.py").write_text(TINY)
    for wrapper, kind in (("MMDistributedDataParallel", "DistributedDataParallel"), ("FullyShard", "FullyShard")):
        first, second = on_ranks(2, told, tmp_path, wrapper)
        assert first.splitlines()[0] == second.splitlines()[0]
        assert first.splitlines()[0].endswith("tiny.py: no problems found")
        lines = [line for line in first.splitlines() if line.startswith(("processes", "memory"))]
        assert lines[0] == f"processes   2, {kind} over gloo, 4 samples each and 8 in total per iteration"
        assert re.match(r"memory +at most \d+ MiB on (each rank|rank 0, \d+ MiB on rank 1), ", lines[1])
        assert not [each for each in tmp_path.iterdir() if each.name.startswith(("footplate-", "work"))]


def test_an_unknown_storage_protocol_is_found_although_the_trial_has_another_folder(tmp_path: Path) -> None:
    (tmp_path / "tiny.py").write_text(f"{TINY}\nwork_dir = 'nowhere://a'\n")
    with pytest.raises(ArgumentError, match="cannot use the storage protocol 'nowhere'") as caught:
        check(Config.fromfile(str(tmp_path / "tiny.py")))
    assert caught.value.key == "work_dir"
