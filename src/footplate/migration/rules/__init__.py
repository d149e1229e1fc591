"""The translation rules, in the order in which they are applied."""

from footplate.migration.rules import data, evaluation, hooks, optimization, runtime
from footplate.migration.rules.rule import Rule

RULES: tuple[Rule, ...] = (
    *runtime.RULES,
    *optimization.RULES,
    *hooks.RULES,
    *evaluation.RULES,
    *data.RULES,
    hooks.PRIORITIES,
)

__all__ = ["RULES", "Rule"]
