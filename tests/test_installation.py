"""Tests that the README, the pages and the notebooks tell how to install footplate today."""

import re
from pathlib import Path

import pytest

from scripts.installation import PUBLISHED, ROOT, SENTENCES, files, published


@pytest.mark.parametrize("path", list(files()), ids=lambda path: path.name)
def test_a_page_follows_the_variable(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert (published(text) == text) is PUBLISHED, "set PUBLISHED in scripts/installation.py, and run it"
    later = published(text)
    assert (
        re.findall(
            r"pip install[^\n`]* -e |isn't on PyPI|not published|尚未发布|没有发布|in a clone of footplate", later
        )
        == []
    )


def test_the_sentences_are_those_of_the_pages() -> None:
    text = "".join(path.read_text(encoding="utf-8").replace('\\"', '"') for path in files())
    assert [sentence for sentence in SENTENCES if sentence not in text] == ([*SENTENCES] if PUBLISHED else [])


def test_the_readme_installs_by_name_once_footplate_is_published() -> None:
    text = published((ROOT / "README.md").read_text(encoding="utf-8"))
    assert "pip install 'footplate[mmseg]'\nfootplate check mmseg::" in text
    assert "pip install footplate\nfootplate train fashion-seg\n" in text
