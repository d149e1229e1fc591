import re
from pathlib import Path
from typing import Any

import pytest

from footplate.cli.main import main
from footplate.config import Config
from footplate.openmmlab.first_generation.translation.draft import Draft, Rule
from footplate.openmmlab.first_generation.translation.translate import RULES


def read(text: str) -> dict[str, Any]:
    return dict(Config.fromstring(text, ".py").to_dict())


def translated_example(rule: Rule) -> dict[str, Any]:
    """Applies a rule to its example, and returns what it wrote and changed."""
    given = read(rule.given)
    draft = Draft(read(f"{rule.given}\n{rule.before}"))
    rule.apply(draft)
    left = {key: value for key, value in draft.remaining.items() if given.get(key) != value}
    return dict(Config({**left, **draft.translated}).to_dict())


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_rule_translates_its_example(rule: Rule) -> None:
    assert translated_example(rule) == read(rule.after)


PAGE = (Path(__file__).parents[4] / "docs/migration.md").read_text(encoding="utf-8")


def test_docs_example_is_the_output_of_the_command(current_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example = PAGE.partition("### An example")[2]
    old, new, report = re.findall(r"```(?:python[^\n]*)?\n(.*?)```", example, re.DOTALL)[:3]
    Path("old_config.py").write_text(old)
    assert main(["migrate", "old_config.py", "-o", "new_config.py"]) == 0
    assert Path("new_config.py").read_text() == new
    assert report in capsys.readouterr().out
