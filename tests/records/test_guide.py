"""The guide `docs/records.md` is correct: its tables are complete, and its configs build."""

import csv
import inspect
import re
from pathlib import Path

import pytest

from footplate import records
from footplate.config import Config
from footplate.engine import Runner
from footplate.registry import LOG_PROCESSORS, VISBACKENDS
from tests.support import settings

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/records.md").read_text()
ROW = re.compile(r"^\| `(\w+VisBackend)` \| (?:`(\w+)`)? ?\| ?(.*?) ?\| .*\|$", re.MULTILINE)
ARGUMENTS = ROW.findall(GUIDE[: GUIDE.index("### No network")])
VERSIONS = re.findall(r"^\| `(\w+VisBackend)` \| (\w+) ([\d.]+) \| ", GUIDE, re.MULTILINE)


def test_every_writer_has_its_row() -> None:
    writers = {name for name in records.__all__ if name.endswith("VisBackend")}
    refused = {"AimVisBackend", "NeptuneVisBackend"}
    assert {kind for kind, _, _ in ARGUMENTS} == writers - refused - {"BaseVisBackend"}
    assert all(f"`{name}`" in GUIDE for name in refused)


@pytest.mark.parametrize(("kind", "extra", "arguments"), ARGUMENTS)
def test_table_lists_arguments_and_extras(kind: str, extra: str, arguments: str) -> None:
    known = list(inspect.signature(VISBACKENDS.get(kind)).parameters)
    assert ["save_dir", *re.findall(r"`(\w+)`", arguments)] == known
    if extra:
        assert f"\n{extra} = [" in (ROOT / "pyproject.toml").read_text()


def test_versions_match_the_tested_versions() -> None:
    pins = re.findall(r"^(\w+) +(\w+)(?:\[\w+\])?==([\d.]+)$", (ROOT / "scripts/writers.txt").read_text(), re.MULTILINE)
    assert [row for row in VERSIONS if row[1] != "tensorboard"] == pins
    constraints = (ROOT / "constraints.txt").read_text()
    assert all(f"tensorboard=={version}\n" in constraints for _, name, version in VERSIONS if name == "tensorboard")


def test_log_processor_of_the_guide_builds() -> None:
    block = next(each for each in re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL) if "log_processor" in each)
    processor = LOG_PROCESSORS.build(Config.fromstring(block, ".py").log_processor)
    assert [rule["method_name"] for rule in processor.custom_cfg] == ["mean", "min", "max"]


def test_custom_writer_of_the_guide_writes(tmp_path: Path) -> None:
    block = next(each for each in re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL) if "TableVisBackend" in each)
    VISBACKENDS._entries.pop("TableVisBackend", None)
    exec(block, {"__name__": "guide"})
    try:
        visualizer = {"type": "Visualizer", "vis_backends": [{"type": "TableVisBackend"}]}
        runner = Runner(**settings(tmp_path, by_epoch=False, visualizer=visualizer))
        runner.train()
        (written,) = tmp_path.glob("*/vis_data/table.csv")
        rows = list(csv.reader(written.read_text().splitlines()))
        assert {(step, name) for step, name, _ in rows} >= {("4", "accuracy"), ("12", "accuracy")}
    finally:
        VISBACKENDS._entries.pop("TableVisBackend", None)
