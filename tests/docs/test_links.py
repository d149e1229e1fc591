"""Checks links on the pages outside `docs/`; `mkdocs build --strict` checks the others (`test_site.py`)."""

from pathlib import Path

import pytest

from tests.docs.pages import ROOT, links_of


@pytest.mark.parametrize("path", sorted(ROOT.glob("*.md")), ids=lambda path: path.name)
def test_links_lead_to_files_of_the_repository(path: Path) -> None:
    targets = [link.partition("#")[0] for link in links_of(path.read_text(encoding="utf-8")) if "://" not in link]
    assert [each for each in targets if not (ROOT / each).exists()] == []
