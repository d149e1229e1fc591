"""Whether a metric should be great or small, and whether one value is better than another."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from footplate.errors import ArgumentError, nearest

if TYPE_CHECKING:
    from footplate.engine import Runner

Rule = Literal["greater", "less"]
GREATER = ("acc", "top", "AR@", "auc", "precision", "recall", "mAP", "mDice", "mIoU", "mAcc", "aAcc", "mFscore")
LESS = ("loss",)


def rule_of(key: str, greater: Sequence[str] = GREATER, less: Sequence[str] = LESS) -> Rule:
    """Returns the rule of a metric: by its whole name, then by what it contains.

    Raises:
        ArgumentError: Neither tells.

    Example:
        >>> rule_of("coco/bbox_mAP"), rule_of("val_loss")
        ('greater', 'less')
    """
    lower = key.lower()
    rules: tuple[tuple[Sequence[str], Rule], ...] = ((greater, "greater"), (less, "less"))
    for fits in (str.__eq__, str.__contains__):
        for names, rule in rules:
            if any(fits(lower, name.lower()) for name in names):
                return rule
    raise ArgumentError(
        f"whether '{key}' should be great or small is not known",
        key="rule",
        notes=["say rule='greater' or rule='less'"],
    )


def checked_rule(rule: str) -> Rule:
    """Returns a rule that a config gives.

    Raises:
        ArgumentError: It is neither "greater" nor "less".
    """
    if rule == "greater" or rule == "less":
        return "greater" if rule == "greater" else "less"
    raise ArgumentError("a rule is 'greater' or 'less'", key="rule", found=rule)


def is_better(value: float, than: float, rule: str, by: float = 0.0) -> bool:
    """Tells whether a value is better than another by more than `by`; NaN never is."""
    return value - than > by if rule == "greater" else than - value > by


def missing_metric(what: str, name: str, metrics: Mapping[str, object] | Sequence[str], key: str) -> ArgumentError:
    """Returns the error of a metric that a hook waits for and no evaluator gives.

    Args:
        what: What names it: "save_best" ...
        name: The metric.
        metrics: Those that there are.
        key: Where in the config it stands.
    """
    return ArgumentError(
        f"{what} names '{name}', which no metric gives",
        key=key,
        suggestion=nearest(name, metrics),
        notes=[f"metrics: {', '.join(metrics) or 'none'}"],
    )


def is_left_out(runner: "Runner", name: str) -> bool:
    """Tells whether a metric is of a validation set that this validation did not have; see `ValLoop`."""
    return name.partition("/")[0] in getattr(runner.val_loop, "left_out", ())
