"""Every block of code of the docs is tried: configs are read and trained, code runs, commands are taken or run."""

from pathlib import Path

import pytest

from tests.docs.pages import DOCS, ROOT, blocks_of, commands_within, pages
from tests.docs.trying import Page, check_words

_RULES = "\n## The rules\n"  # of docs/migration.md: `tests/migration/rules` tries each
PAGES = [each for each in pages() if blocks_of(each.read_text(encoding="utf-8"))]


def _named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", PAGES, ids=_named)
@pytest.mark.filterwarnings("default:::transformers")
def test_the_blocks_of_a_page(path: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = Page(path, capsys)
    for block in blocks_of(path.read_text(encoding="utf-8").partition(_RULES)[0]):
        try:
            page.try_block(block)
        except BaseException as error:
            raise AssertionError(f"{_named(path)}:{block.line}: {error}") from error


@pytest.mark.parametrize("path", [each for each in pages() if each.parent != DOCS / "decisions"], ids=_named)
def test_commands_within_sentences(path: Path) -> None:
    for command in commands_within(path.read_text(encoding="utf-8")):
        check_words(command)
