import re
from pathlib import Path
from typing import Any

import pytest

from footplate.cli.main import main
from footplate.config import Config
from footplate_openmmlab.first_generation.translation.config_translation import RULES
from footplate_openmmlab.first_generation.translation.draft import Draft, Rule


def read(text: str) -> dict[str, Any]:
    return dict(Config.fromstring(text, ".py").to_dict())


BLOCK = r"```python\n(.*?)\n```"
EXAMPLE = re.compile(
    rf"\n\n(?:{BLOCK}\n\nbecomes\n\n)?(?:{BLOCK}|nothing\.)(?:\n\nin a config with\n\n{BLOCK})?$", re.S
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_rule_translates_its_example(rule: Rule) -> None:
    """What a rule writes and changes is the new config of its example."""
    example = EXAMPLE.search(rule.description)
    assert example is not None
    before, after, given = example.groups("")
    draft = Draft(read(f"{given}\n{before}"))
    rule.apply(draft)
    left = {key: value for key, value in draft.remaining.items() if read(given).get(key) != value}
    assert dict(Config({**left, **draft.translated}).to_dict()) == read(after)


PAGE = (Path(__file__).parents[4] / "docs/migration.md").read_text(encoding="utf-8")


def test_docs_example_is_the_output_of_the_command(current_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example = PAGE.partition("### An example")[2]
    old, new, report = re.findall(r"```(?:python[^\n]*)?\n(.*?)```", example, re.DOTALL)[:3]
    Path("old_config.py").write_text(old)
    assert main(["migrate", "old_config.py", "-o", "new_config.py"]) == 0
    assert Path("new_config.py").read_text() == new
    assert report in capsys.readouterr().out
