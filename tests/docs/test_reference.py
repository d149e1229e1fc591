"""Checks that the pages that `mkdocs build` makes from signatures and docstrings are complete."""

import re

from footplate.engine.plan.top_level_keys import keys_of_both_generations
from footplate_openmmlab.first_generation.translation.config_translation import RULES
from scripts.public_api import FILE
from scripts.reference import pages
from tests.docs.pages import ROOT, commands_within
from tests.docs.trying import check_words

PAGES = pages()
_ROW = re.compile(r"^\| `(\w+)` \| (.*) \| (.*) \| (.*) \|$", re.MULTILINE)


def test_every_argument_has_a_type_and_a_meaning() -> None:
    bare = [
        (name, text.count("\n", 0, match.start()) + 1)
        for name, text in PAGES.items()
        for match in _ROW.finditer(text)
        if not (match[2] and match[4])
    ]
    assert not bare


def test_every_key_has_an_example() -> None:
    # A description shows an example if it contains the key, a dict, or "Example:".
    shown = re.compile(r"=|`dict\(|such as|Accepted for compatibility|Ignored|Not used|Has no effect")
    without = [
        (name, match[1])
        for name, text in PAGES.items()
        if name != "python.md"
        for match in _ROW.finditer(text)
        if not shown.search(match[4])
    ]
    assert not without


def test_tables_have_as_many_cells_on_github() -> None:
    """On GitHub, a bar ends a cell even in code."""
    for name, text in PAGES.items():
        for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
            assert len({line.count("|") for line in table.splitlines()}) == 1, (name, table.splitlines()[0])


def test_options_of_many_commands_are_described_once() -> None:
    commands = PAGES["commands.md"]
    assert commands.count("| `--json` |") == 1
    assert commands.count("[Common options](#common-options): ") == commands.count("\n```\nfootplate ")


def test_commands_begin_with_their_groups() -> None:
    head = PAGES["commands.md"].partition("\n## ")[0]
    commands = re.findall(r"^## (.*)$", PAGES["commands.md"], re.MULTILINE)[1:]
    assert re.findall(r"\[([\w ]+)\]\(#", head) == commands
    assert [line.split(" | ")[0] for line in head.splitlines()[-3:]] == [
        "| train and use a model",
        "| inspect",
        "| convert",
    ]


def test_required_keys_are_marked() -> None:
    rows = {match[1]: match[3] for match in _ROW.finditer(PAGES["config.md"])}
    assert (rows["model"], rows["dataset"], rows["train_cfg"]) == ("required", "required", "`None`")
    assert rows["work_dir"] == "named after the config"  # by the commands


def test_every_name_has_a_description() -> None:
    text = "".join(PAGES.values())
    entries = re.findall(r"^### (.*)\n\n(.*)\n\nDefined in `(.*)`", text, re.MULTILINE)
    assert len(entries) == text.count("\n### ") - len(RULES)
    assert all(summary.endswith((".", ":")) for _, summary, _ in entries)
    assert all((ROOT / place).is_file() for _, _, place in entries)


def test_top_level_keys_are_complete() -> None:
    top = PAGES["config.md"].partition("## Data loaders")[0]
    first = PAGES["first-generation.md"].partition("## Rules")[0]
    assert set(re.findall(r"^\| `(\w+)`", top + first, re.MULTILINE)) == keys_of_both_generations()


def test_names_of_the_python_page_are_public() -> None:
    public = {line.partition("(")[0] for line in FILE.read_text(encoding="utf-8").splitlines()}
    sections = [section.split("\n### ") for section in PAGES["python.md"].split("\n## ")[1:]]
    names = {f"{head.strip()}.{entry.split()[0]}" for head, *entries in sections for entry in entries}
    assert names - public == set()


def test_commands_in_sentences_exist() -> None:
    commands = [command for text in PAGES.values() for command in commands_within(text)]
    assert commands
    for command in commands:
        check_words(command)
