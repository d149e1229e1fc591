from typing import Any

import pytest

from footplate.config import Config
from footplate.first_generation.translation import RULES, Rule
from footplate.first_generation.translation.draft import Draft


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


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_rule_is_complete(rule: Rule) -> None:
    assert rule.summary.endswith(".")
    assert len(rule.summary) < 120
    assert not rule.keys or set(rule.keys) & {*read(rule.before), *read(rule.given)}


def test_rule_ids_are_unique() -> None:
    assert len({rule.id for rule in RULES}) == len(RULES)
