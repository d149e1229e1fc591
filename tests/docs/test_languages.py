"""Checks that the headings, links and code blocks of English and Chinese pages correspond."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import DOCS, blocks_of, headings_of, links_of, pages

# The pages that must exist in Chinese: those of the roads from a start to a model.
GUIDES = (
    "index",
    "install",
    "getting-started",
    "tasks/segmentation",
    "tasks/detection",
    "tasks/classification",
    "tasks/selfsup",
    "config",
    "data",
    "fine-tuning",
    "resuming",
    "devices",
    "inspecting-runs",
    "predicting",
    "exporting",
    "hosts",
    "first-generation",
    "migration",
    "differences",
    "python",
    "hooks",
)


def outline(text: str) -> list[Any]:
    """Returns what a page has in common with its translation: levels of headings, links, and code blocks.

    Links have neither a language nor an anchor, because these differ between the languages.
    """
    links = Counter(re.sub(r"\.zh(?=\.\w+)", "", link).partition("#")[0] for link in links_of(text))
    return [[level for level, _ in headings_of(text)], links, *(block[1:] for block in blocks_of(text))]


@pytest.mark.parametrize("path", pages("zh"), ids=lambda path: path.relative_to(DOCS).as_posix())
def test_english_and_chinese_pages_correspond(path: Path) -> None:
    english = path.with_name(path.name.replace(".zh.md", ".md"))
    assert english.is_file(), "there is no English page"
    assert outline(path.read_text(encoding="utf-8")) == outline(english.read_text(encoding="utf-8"))


def test_every_guide_exists_in_chinese() -> None:
    assert [name for name in GUIDES if not (DOCS / f"{name}.zh.md").is_file()] == []
