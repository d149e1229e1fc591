"""Parses the pages of the docs into code blocks, headings, links and commands in sentences."""

import ast
import re
from pathlib import Path
from typing import NamedTuple

from footplate.engine.plan.top_level_keys import keys_of_both_generations

# Titles of code blocks for other engines, which tests/docs/test_coming_from.py runs in their own environments.
OTHER_ENGINES = ("Lightning", "Trainer")
ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
_FENCE = re.compile(r'^( *)```(\w*)(?: title="([^"]+)")?$\n(.*?)^\1```$', re.DOTALL | re.MULTILINE)
_HEADING = re.compile(r"^(#+) (.*)$", re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_INLINE = re.compile(r"`footplate (?!\.)([^`]+)`")


class Block(NamedTuple):
    """A code block."""

    line: int
    language: str
    title: str
    text: str

    @property
    def kind(self) -> str:
        """How the block is tested: "module", "config", "fragment", "code", "other", "commands", "script" or "text"."""
        if self.language != "python":
            kinds = {"console": "commands", "sh": "script"}  # "py": Python for packages that are not installed here
            return kinds.get(self.language, "text" if self.language in ("json", "toml", "py", "") else "unknown")
        if self.title in OTHER_ENGINES:
            return "other"
        is_file = "." in self.title
        if not _only_assigns(self.text):
            return "config" if "_base_" in self.text or "read_base" in self.text else ("module" if is_file else "code")
        if is_file:
            return "config"
        return "fragment" if keys_of_both_generations() & _assigned(self.text) else "code"


def pages(language: str = "en") -> list[Path]:
    """Returns the pages in a language; the English pages include README.md and CONTRIBUTING.md."""
    found = sorted(DOCS.rglob("*.md"))
    if language != "en":
        return [each for each in found if each.name.endswith(f".{language}.md")]
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(each for each in found if each.name.count(".") == 1)]


def blocks_of(text: str) -> list[Block]:
    """Returns the code blocks of a page in order."""
    return [
        Block(text.count("\n", 0, each.start()) + 2, each[2], each[3] or "", each[4]) for each in _FENCE.finditer(text)
    ]


def headings_of(text: str) -> list[tuple[int, str]]:
    """Returns the level and the text of each heading."""
    return [(len(each[1]), each[2]) for each in _HEADING.finditer(_FENCE.sub("", text))]


def links_of(text: str) -> list[str]:
    """Returns the targets of links and images in order."""
    return _LINK.findall(_FENCE.sub("", text))


def commands_within(text: str) -> list[str]:
    """Returns the arguments of the `footplate` commands in sentences."""
    return [each.replace("\n", " ") for each in _INLINE.findall(_FENCE.sub("", text))]


def _only_assigns(text: str) -> bool:
    return all(isinstance(each, ast.Assign) for each in ast.parse(text).body)


def _assigned(text: str) -> set[str]:
    targets = [target for each in ast.parse(text).body if isinstance(each, ast.Assign) for target in each.targets]
    return {each.id for each in targets if isinstance(each, ast.Name)}
