"""Tests that changes of the public API are visible."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

from scripts.public_api import BUILT_IN_NAMES, FILE, MODULES, built_in_names, text
from tests.docs.pages import blocks_of, pages

PAGE = Path(__file__).resolve().parents[1] / "docs" / "public-api.md"


def test_the_public_api_is_recorded() -> None:
    assert text() == FILE.read_text(encoding="utf-8"), "run `python scripts/public_api.py`, and add a changelog entry"


def test_the_table_of_built_in_names_is_up_to_date() -> None:
    assert json.loads(BUILT_IN_NAMES.read_text()) == built_in_names(), "run `python scripts/public_api.py`"


def test_the_page_lists_the_modules() -> None:
    listed = re.findall(r"^- ((?:`footplate[\w.]*`(?:, )?)+)", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(re.findall(r"`([\w.]+)`", " ".join(listed))) == sorted(MODULES)


def test_names_that_the_pages_import_are_public() -> None:
    public = {line.partition("(")[0] for line in FILE.read_text(encoding="utf-8").splitlines()}
    assert set(_imported()) - public == set()


def _imported() -> Iterator[str]:
    for page in pages():
        blocks = [block.text for block in blocks_of(page.read_text(encoding="utf-8")) if block.language == "python"]
        for node in ast.walk(ast.parse("\n".join(blocks if page.name != "CONTRIBUTING.md" else []))):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("footplate"):
                yield from (f"{node.module}.{name.name}" for name in node.names)
