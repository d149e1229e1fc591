"""Checks that the page on hooks lists every built-in hook."""

import re
from typing import Any

import pytest

from footplate.engine import Hook
from footplate.registry import HOOKS
from tests.docs.pages import DOCS

# First-generation hooks are described with the translation of their configs.
_ELSEWHERE = "footplate_openmmlab."
_NOT_OF_USERS = {"SavingHook", "SwappingHook", "CountingHook"}  # two base classes, and one that adapts loops


def built_in() -> set[str]:
    """Returns the registered hooks, and those that the engine and `footplate train` add to a run."""
    hooks: set[Any] = {*HOOKS.module_dict.values(), *Hook.__subclasses__()}
    modules = {hook.__name__: hook.__module__ for hook in hooks if hook.__module__.startswith("footplate")}
    registered = {name for name, module in modules.items() if not module.startswith(_ELSEWHERE)}
    added = {name for name in registered if modules[name].startswith("footplate.engine.")}
    return ((registered & HOOKS.module_dict.keys()) | added) - _NOT_OF_USERS


@pytest.mark.parametrize("page", ["hooks.md", "hooks.zh.md"])
def test_tables_list_all_hooks(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    section = re.split("^## ", text, flags=re.MULTILINE)[2]
    rows = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    assert {*re.findall(r"`(\w+)`", str(rows))} == built_in()
