"""The translation rules, one record each."""

from footplate.migration.rules import data, evaluating, hooks, optimizing, running
from footplate.migration.rules.record import Rule

RULES: tuple[Rule, ...] = (
    *running.RULES,
    *optimizing.RULES,
    *hooks.RULES,
    *evaluating.RULES,
    *data.RULES,
    hooks.PRIORITIES,
)

__all__ = ["RULES", "Rule"]
