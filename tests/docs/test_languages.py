"""Checks that the headings, links and code blocks of English and Chinese pages correspond."""

import itertools
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, blocks_of, headings_of, links_of, pages

# The pages that must exist in Chinese.
GUIDES = (
    "index",
    "getting-started",
    "config",
    "extending",
    "hooks",
    "optimization",
    "schedules",
    "data",
    "devices",
    "slurm",
    "kubernetes",
    "reliability",
    "security",
    "migration",
    "tasks/segmentation",
    "tasks/detection",
    "tasks/classification",
    "tasks/selfsup",
)


def differences(english: str, chinese: str) -> list[str]:
    """Describes the differences between two pages."""
    return [*_of_headings(english, chinese), *_of_links(english, chinese), *_of_blocks(english, chinese)]


def _of_headings(english: str, chinese: str) -> Iterator[str]:
    for place, (one, other) in enumerate(itertools.zip_longest(headings_of(english), headings_of(chinese)), 1):
        if one is None or other is None or one[0] != other[0]:
            yield f"heading {place}: {_heading(one)} here, {_heading(other)} in Chinese"
            return


def _of_links(english: str, chinese: str) -> Iterator[str]:
    ours, theirs = (Counter(map(_target, links_of(each))) for each in (english, chinese))
    for link in ours | theirs:
        if ours[link] != theirs[link]:
            yield f"link {link}: {ours[link]} here, {theirs[link]} in Chinese"


def _of_blocks(english: str, chinese: str) -> Iterator[str]:
    ours, theirs = blocks_of(english), blocks_of(chinese)
    for one, other in zip(ours, theirs, strict=False):
        if one[1:] != other[1:]:
            where = f"the block of line {one.line} differs in Chinese, line {other.line}"
            yield f"{where}: {_first_difference(one.text, other.text)}"
    for each in ours[len(theirs) :]:
        yield f"the block of line {each.line} is only here"
    for each in theirs[len(ours) :]:
        yield f"the block of line {each.line} is only in Chinese"


def _heading(heading: tuple[int, str] | None) -> str:
    return "none" if heading is None else f"'{'#' * heading[0]} {heading[1]}'"


def _target(link: str) -> str:
    """Returns a link without its language and its anchor, which differ between the languages."""
    return re.sub(r"\.zh(?=\.\w+)", "", link).partition("#")[0]


def _first_difference(one: str, other: str) -> str:
    pairs = itertools.zip_longest(one.splitlines(), other.splitlines(), fillvalue="")
    return next((f"'{here}' and '{there}'" for here, there in pairs if here != there), "its language or title")


@pytest.mark.parametrize("path", pages("zh"), ids=lambda path: path.relative_to(DOCS).as_posix())
def test_english_and_chinese_pages_correspond(path: Path) -> None:
    english = path.with_name(path.name.replace(".zh.md", ".md"))
    assert english.is_file(), "there is no English page"
    found = differences(english.read_text(encoding="utf-8"), path.read_text(encoding="utf-8"))
    assert not found, "\n".join(found)


def test_every_guide_exists_in_chinese() -> None:
    assert [name for name in GUIDES if not (DOCS / f"{name}.zh.md").is_file()] == []


PAGE = """# One

See [two](two.md#there).

## Two

```python title="a.py"
x = 1
```
"""


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("two.md#there", "two.zh.md#dort", []),
        ("## Two", "### Two", ["heading 2: '## Two' here, '### Two' in Chinese"]),
        ("two.md", "three.md", ["link two.md: 1 here, 0 in Chinese", "link three.md: 0 here, 1 in Chinese"]),
        ("x = 1", "x = 2", ["the block of line 8 differs in Chinese, line 8: 'x = 1' and 'x = 2'"]),
        ("```\n", "```\n\n```\ny\n```\n", ["the block of line 12 is only in Chinese"]),
    ],
)
def test_differences_between_the_languages_are_reported(before: str, after: str, told: list[str]) -> None:
    assert differences(PAGE, PAGE.replace(before, after)) == told
