"""Determines whether a metric should be high or low, and compares its values."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, cast

from footplate.checks import check_choice, check_score
from footplate.engine import Runner
from footplate.errors import ArgumentError
from footplate.messages import nearest
from footplate.records.message_hub import is_of_class, is_of_dataset, metric_of_label

Rule = Literal["greater", "less"]
GREATER = ("acc", "top", "AR@", "auc", "precision", "recall", "mAP", "mDice", "mIoU", "mAcc", "aAcc", "mFscore")
LESS = ("loss",)
# Metrics of other tasks, matched by a whole word of their name: "coco-wholebody/AP", "Mean PCK", "bbox_ap50".
_GREATER_NAMES = (
    "ap ar auprc auroc bleu cider dice eao f1 fscore hmean hota idf1 iou kappa mcc miou mota mrr ndcg nds pck pckh pcp"
    " psnr recall sensitivity specificity ssim success"
)
_LESS_NAMES = "cer ece epe error fid kid lpips mae mape mpjpe mse niqe nll nme perplexity ppl rmse sad swd wer"
_GREATER_WORDS, _LESS_WORDS = frozenset(_GREATER_NAMES.split()), frozenset(_LESS_NAMES.split())


def find_rule(key: str, greater: Sequence[str] = GREATER, less: Sequence[str] = LESS) -> Rule | None:
    """Returns the rule of a metric, or None if its name does not determine the rule.

    Matches the whole name first, then parts of the name, then well-known words.

    Args:
        key: The metric.
        greater: Names, or parts of names, of metrics for which higher is better.
        less: Names, or parts of names, of metrics for which lower is better.

    Example:
        >>> find_rule("coco/bbox_mAP"), find_rule("val_loss"), find_rule("score")
        ('greater', 'less', None)
    """
    lower = key.lower()
    rules: tuple[tuple[Sequence[str], Rule], ...] = ((greater, "greater"), (less, "less"))
    for fits in (str.__eq__, str.__contains__):
        for names, rule in rules:
            if any(fits(lower, name.lower()) for name in names):
                return rule
    words = {part for word, digits in re.findall("([a-z]+)([0-9]*)", lower) for part in (word, word + digits)}
    if words & _GREATER_WORDS and not words & _LESS_WORDS:
        return "greater"
    if words & _LESS_WORDS and not words & _GREATER_WORDS:
        return "less"
    return None


class UnknownRuleError(ArgumentError):
    """The name of a metric does not tell whether higher or lower values are better.

    Hooks raise it when training begins rather than in their constructors, because the preflight check, which knows the
    metrics, comes in between: a misspelled name is reported as a missing metric.

    Args:
        metric: The metric.
        key: The setting that selects the metric.
    """

    def __init__(self, metric: str, key: str) -> None:
        super().__init__(
            f"cannot tell whether a higher or lower '{metric}' is better",
            key=key,
            notes=["Set rule='greater' or rule='less'."],
        )


def check_rule(rule: str) -> Rule:
    """Checks a rule from a config and returns it.

    Raises:
        ArgumentError: The rule is neither "greater" nor "less".
    """
    return cast(Rule, check_choice("rule", rule, ("greater", "less")))


def expand_rules(metrics: Sequence[str], rules: Sequence[str]) -> list[Rule]:
    """Returns the rule of each metric, or an empty list if there are no rules. A single rule applies to all metrics.

    Raises:
        ArgumentError: A rule is unknown, or there are more or fewer rules than metrics.
    """
    if len(rules) not in (0, 1, len(metrics)):
        raise ArgumentError("rule must have one value, or one for each metric of save_best", key="rule", found=rules)
    checked = [check_rule(rule) for rule in rules]
    return checked * len(metrics) if len(rules) == 1 else checked


def is_better(value: float, than: float, rule: str, by: float = 0.0) -> bool:
    """Checks whether `value` beats `than` by a margin greater than `by`. NaN is never better."""
    return value - than > by if rule == "greater" else than - value > by


def best_metrics(cfg: Mapping[str, Any]) -> list[str]:
    """Returns the metrics of `save_best` in a config of either generation, possibly "auto"."""
    best = _best_setting(cfg, "save_best")
    return [best] if isinstance(best, str) else list(best)


def best_metric_rules(cfg: Mapping[str, Any]) -> dict[str, Rule]:
    """Returns the rules that a config sets for the metrics of `save_best`."""
    best, stated = best_metrics(cfg), _best_setting(cfg, "rule")
    rules = expand_rules(best, [stated] if isinstance(stated, str) else list(stated))
    return dict(zip(best, rules, strict=True)) if rules else {}


def _best_setting(cfg: Mapping[str, Any], key: str) -> Any:
    hooks = ((cfg.get("default_hooks") or {}).get("checkpoint"), cfg.get("checkpoint_config"), cfg.get("evaluation"))
    return next((hook[key] for hook in hooks if hook and hook.get(key)), ())


def order_metrics(names: Iterable[str], first: Sequence[str] = ()) -> list[str]:
    """Returns the metrics in display order, starting with those in `first`. Omits per-class results and `support`.

    Args:
        names: All metrics.
        first: The metrics of `save_best`. They are always included.
    """
    present = dict.fromkeys(names)
    selected = [name for name in first if name in present]
    # `support` is a number of samples, which is neither better nor worse.
    scores = [name for name in present if name.partition(".")[0].rpartition("/")[2] != "support"]
    return list(dict.fromkeys([*selected, *(name for name in scores if not is_of_class(name, present))]))


class MissingMetricError(ArgumentError):
    """A hook or a command needs a metric that no evaluator computes.

    Args:
        what: The setting that selects the metric, such as "save_best".
        name: The metric.
        metrics: The existing metrics.
        key: The key path of the setting in the config.
    """

    def __init__(self, what: str, name: str, metrics: Mapping[str, object] | Sequence[str], key: str) -> None:
        suggestion = nearest(metric_of_label(name), metrics)
        advice = "Add a function or a BaseMetric that computes it to val_evaluator. Values of hooks do not count."
        super().__init__(
            f"{what} selects the metric '{name}', which no evaluator computes",
            key=key,
            suggestion=suggestion,
            notes=[f"metrics: {', '.join(metrics) or 'none'}", *([advice] if suggestion is None else [])],
        )


def is_skipped(runner: Runner, name: str) -> bool:
    """Checks whether a metric belongs to a dataset that this validation skipped; see `ValLoop`."""
    return is_of_dataset(name, getattr(runner.val_loop, "left_out", ()))


class MonitoredMetric:
    """A metric that a hook reads after each validation.

    Args:
        name: The metric.
        key: The setting of the hook that selects it, for messages.
        rule: Whether higher or lower is better. By default, it is derived from the name.
        greater: See `find_rule`.
        less: See `find_rule`.
    """

    def __init__(
        self,
        name: str,
        key: str,
        rule: Rule | None = None,
        greater: Sequence[str] = GREATER,
        less: Sequence[str] = LESS,
    ) -> None:
        self.name, self.key = name, key
        self.rule = rule or find_rule(name, greater, less)

    def check(self, runner: Runner) -> None:
        """Checks the name before the first validation.

        Only the names of metrics that are functions or objects in a dict are known that early. The keys of a dict that
        such a metric returns are not.

        Raises:
            MissingMetricError: The name resembles that of another metric.
            UnknownRuleError: No rule is set, and the name does not determine it.
        """
        sets = getattr(runner.val_loop, "sets", ())
        names = [name for each in sets for name in each.named(dict.fromkeys(each.evaluator.names))]
        near = nearest(self.name, names)
        if near not in (None, self.name) and not self.name.startswith((f"{near}/", "loss")):
            raise MissingMetricError(self.key, self.name, names, self.key)
        self.check_rule()

    def check_rule(self) -> None:
        """Raises UnknownRuleError if no rule is set, and the name does not determine it."""
        if self.rule is None:
            raise UnknownRuleError(self.name, self.key)

    def check_in(self, metrics: Sequence[str]) -> None:
        """Raises MissingMetricError if the metric is not in `metrics`, those of a validation."""
        if self.name not in metrics:
            raise MissingMetricError(self.key, self.name, metrics, self.key)

    def read(self, runner: Runner, metrics: Mapping[str, Any]) -> float | None:
        """Returns the value of the metric, or None if the validation skipped its dataset."""
        if is_skipped(runner, self.name):
            return None
        self.check_in(tuple(metrics))
        return check_score(self.name, metrics[self.name], key=self.key)

    def is_better(self, value: float, than: float, by: float = 0.0) -> bool:
        """Checks whether `value` beats `than` by a margin greater than `by`."""
        return self.rule is not None and is_better(value, than, self.rule, by)
