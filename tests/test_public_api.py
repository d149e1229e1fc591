"""Tests that changes of the public API are visible."""

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path

from scripts.public_api import FILE, MODULES
from tests import programs
from tests.docs.pages import blocks_of, pages

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "public-api.md"


def test_the_public_api_and_the_table_of_built_in_names_are_recorded() -> None:
    # In a process of its own: other tests register names, and import code bases that add members to our classes.
    result = programs.run("scripts/public_api.py", "--check", folder=ROOT, environment=os.environ)
    assert not result.returncode, result.stderr + "run `python scripts/public_api.py`, and add a changelog entry"


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
