"""The translation rules, in the order in which they are applied."""

from footplate.first_generation.translation.draft import Rule
from footplate.first_generation.translation.rules import data, evaluation, hooks, optimization, runtime

RULES: tuple[Rule, ...] = (
    *runtime.RULES,
    *optimization.RULES,
    *hooks.RULES,
    *evaluation.RULES,
    *data.RULES,
    hooks.PRIORITIES,
)

__all__ = ["RULES", "Rule"]
