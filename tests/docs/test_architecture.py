import re
from pathlib import Path

import pytest

import footplate

PACKAGE = Path(footplate.__file__).parent
ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
_FOLDERS = ("src", "tests", "benchmarks", "scripts")


@pytest.mark.parametrize(
    "path",
    [ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("architecture*.md")), *sorted(DOCS.glob("decisions/*.md"))],
    ids=lambda path: path.stem,
)
def test_source_files_in_pages_about_the_code_exist(path: Path) -> None:
    paths = [*ROOT.glob("*.py"), *(each for folder in _FOLDERS for each in (ROOT / folder).rglob("*.py"))]
    existing = [each.as_posix() for each in paths]
    named = re.findall(r"`((?:\w+/)*\w+\.py)`", path.read_text(encoding="utf-8"))
    assert [each for each in named if not any(other.endswith(f"/{each}") for other in existing)] == []


def _places(page: str) -> list[tuple[str, list[str]]]:
    """Returns the files and the names in the tables of a page."""
    rows = [line.split(" | ") for line in (DOCS / page).read_text(encoding="utf-8").splitlines()]
    cells = [part for row in rows if len(row) == 3 for part in row[1].split("<br>")]
    places = [re.findall(r"`([^`]+)`", cell) for cell in cells if re.match(r"`[\w/]+/\w+\.py`|`\w+\.py`: ", cell)]
    return [(path, names) for path, *names in places]


def _is_defined(name: str, source: str) -> bool:
    """Checks whether a source defines a function, class or constant, or a class with a method."""
    owner, _, method = name.rpartition(".")
    body = re.search(rf"^class {owner}\b.*?(?=^\S|\Z)", source, re.DOTALL | re.MULTILINE) if owner else None
    if owner:
        return body is not None and re.search(rf"^    def {method}\(", body[0], re.MULTILINE) is not None
    return re.search(rf"^(?:(?:async )?def|class) {name}\b|^{name}\b.* = ", source, re.MULTILINE) is not None


def test_files_and_functions_of_exact_resume_exist() -> None:
    places = _places("exact-resume.md")
    assert len(places) > 40
    missing = [
        f"{path}: {name}"
        for path, names in places
        for name in names
        if not _is_defined(name, (PACKAGE / path).read_text(encoding="utf-8"))
    ]
    assert not missing


def test_tests_of_exact_resume_exist() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (DOCS / "exact-resume.md").read_text(encoding="utf-8"))
    assert len(named) > 35
    assert [name for path, name in named if f"def {name}(" not in (ROOT / path).read_text(encoding="utf-8")] == []
