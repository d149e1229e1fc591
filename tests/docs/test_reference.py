"""Checks that `docs/reference.md` is up to date and complete."""

import re

import pytest

from footplate.engine.run_config import known_keys
from tests.docs.pages import ROOT

pytest.importorskip("griffe", reason="the extra docs needs Python 3.11")
from scripts.reference import PAGE, page  # noqa: E402

TEXT = PAGE.read_text(encoding="utf-8")
_ROW = re.compile(r"^\| `(\w+)` \| (.*) \| (.*) \| (.*) \|$", re.MULTILINE)


def test_reference_is_up_to_date() -> None:
    assert page() == TEXT, "python scripts/reference.py writes it anew"


def test_every_argument_has_a_type_and_a_meaning() -> None:
    bare = [
        (match[1], TEXT.count("\n", 0, match.start()) + 1)
        for match in _ROW.finditer(TEXT)
        if not (match[2] and match[4])
    ]
    assert not bare


def test_every_name_has_a_description() -> None:
    entries = re.findall(r"^### (.*)\n\n(.*)\n\nDefined in `(.*)`", TEXT, re.MULTILINE)
    assert len(entries) == TEXT.count("\n### ")
    assert all(summary.endswith((".", ":")) for _, summary, _ in entries)
    assert all((ROOT / place).is_file() for _, _, place in entries)


def test_top_level_keys_are_complete() -> None:
    top = TEXT.partition("## Top level")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)`", top, re.MULTILINE)) == known_keys()
