import re
from pathlib import Path

import pytest

import footplate

PACKAGE = Path(footplate.__file__).parent
ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
_FOLDERS = ("src/footplate", "tests", "benchmarks", "scripts")
_WRITTEN_BY_RUNS = {"nonfinite_iter_7.py"}


@pytest.mark.parametrize(
    "path",
    [ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("architecture*.md")), *sorted(DOCS.glob("decisions/*.md"))],
    ids=lambda path: path.stem,
)
def test_source_files_in_pages_about_the_code_exist(path: Path) -> None:
    existing = [each.as_posix() for folder in _FOLDERS for each in (ROOT / folder).rglob("*.py")]
    named = re.findall(r"`((?:\w+/)*\w+\.py)`", path.read_text(encoding="utf-8"))
    missing = {each for each in named if not any(other.endswith(f"/{each}") for other in existing)}
    assert missing <= _WRITTEN_BY_RUNS


def test_core_does_not_name_the_package_for_openmmlab() -> None:
    above = {"openmmlab", "cli", "inference", "tools"}
    source = ROOT / "src" / "footplate"
    modules = [
        path for path in source.rglob("*.py") if path.relative_to(source).parts[0] not in {*above, "__init__.py"}
    ]
    assert len(modules) > 100
    named = [str(path) for path in modules if "footplate.openmmlab" in path.read_text(encoding="utf-8")]
    assert not named
