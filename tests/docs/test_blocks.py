"""Tests every code block of the docs: reads and trains configs, runs code, and parses or runs commands."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, ROOT, Block, blocks_of, commands_within, pages
from tests.docs.trying import Page, check_words

PAGES = [path for path in pages() if blocks_of(path.read_text(encoding="utf-8"))]


def _named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", PAGES, ids=_named)
@pytest.mark.filterwarnings("default:::transformers")
def test_code_blocks_of_a_page_work(path: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, blocks = Page(path, capsys), blocks_of(path.read_text(encoding="utf-8"))
    assert blocks
    for block in blocks:
        try:
            page.try_block(block)
        except BaseException as error:
            raise AssertionError(f"{_named(path)}:{block.line}: {error}") from error


@pytest.mark.parametrize("path", [each for each in pages() if each.parent != DOCS / "decisions"], ids=_named)
def test_commands_in_sentences_exist(path: Path) -> None:
    for command in commands_within(path.read_text(encoding="utf-8")):
        check_words(command)


def test_messages_on_the_pages_match_the_code() -> None:
    shown = [
        line for path in PAGES for block in blocks_of(path.read_text(encoding="utf-8")) for line in _messages(block)
    ]
    assert len(shown) >= 14
    unmatched = set(shown)
    for path in sorted((ROOT / "src").rglob("*.py")):
        for literal, pattern in _templates(path):
            candidates = [line for line in unmatched if literal in line]
            unmatched -= {line for line in candidates if re.search(pattern, line)}
    assert not unmatched


def _messages(block: Block) -> list[str]:
    lines = block.text.splitlines() if block.kind == "text" else []
    # Errors of a user's own code say what Python says.
    said = [
        re.match(r"(?:error: (?!(?:rank \d: )?\w+Error: )|(?:WARNING|INFO|ERROR) - |(?=SIGTERM: ))(.*)", line)
        for line in lines
    ]
    return [each[1] for each in said if each]


def _templates(path: Path) -> Iterator[tuple[str, str]]:
    """Yields a part and a regular expression for each longer string of a file, with any values in its place."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        parts = node.values if isinstance(node, ast.JoinedStr) else [node]
        texts = [part.value if isinstance(part, ast.Constant) else None for part in parts]
        literals = [piece for text in texts if isinstance(text, str) for piece in re.split(r"%[a-z]|%\.\d\w|\n", text)]
        if sum(map(len, literals)) > 15:
            pieces = [re.escape(text.strip("\n")) if isinstance(text, str) else ".*" for text in texts]
            yield max(literals, key=len), re.sub(r"%[a-z]|%\.\d\w", ".*", "".join(pieces))
