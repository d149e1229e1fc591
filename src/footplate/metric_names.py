"""Looks up metrics, and parses metric names: the dataset, the class, and whether higher or lower is better."""

import re
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from typing import Any, Literal, cast

from footplate.checks import check_choice
from footplate.errors import ArgumentError
from footplate.messages import nearest

_VALIDATION = "val/"
_LOGGED_BY_EVERY_TRAINING = ("loss", "time", "data_time")
Rule = Literal["greater", "less"]
GREATER = ("acc", "top", "AR@", "auc", "precision", "recall", "mAP", "mDice", "mIoU", "mAcc", "aAcc", "mFscore")
LESS = ("loss",)
# Metrics of other tasks, matched by a whole word of their name: "coco-wholebody/AP", "Mean PCK", "bbox_ap50".
_GREATER_NAMES = (
    "acc accuracy ap ar auprc auroc bleu cider dice eao f1 fscore hmean hota idf1 iou kappa mcc miou mota mrr ndcg"
    " nds neg pck pckh pcp psnr recall sensitivity specificity ssim success"
)
_LESS_NAMES = "cer ece epe error fid hd kid loss lpips mae mape mpjpe mse niqe nll nme perplexity ppl rmse sad swd wer"
_GREATER_WORDS = frozenset(_GREATER_NAMES.split())
_LESS_WORDS = frozenset(_LESS_NAMES.split())


class MissingMetricError(ArgumentError):
    """Raised if a hook or schedule needs a metric that validation does not compute.

    Args:
        what: The setting that selects the metric, e.g. "save_best".
        name: The metric.
        metrics: The names of the available metrics.
        key: The key path of the setting in the config.
        notes: Additional notes.
    """

    def __init__(self, what: str, name: str, metrics: Collection[str], key: str, notes: Sequence[str] = ()) -> None:
        metric = metric_of_label(name).removeprefix("val_")
        whole = [each for each in metrics if each.endswith(f"/{metric}")]
        suggestion = whole[0] if whole else nearest(name, metrics) or nearest(metric, metrics)
        advice = (
            "Set val_cfg=dict(loss=True). With training_step=..., also pass loss=..., a function of (output, target)."
            if metric == "loss"
            else "Add a function or BaseMetric that computes it to val_evaluator, or return it from evaluate() of a "
            "first-generation dataset. Values from hooks cannot be used."
        )
        super().__init__(
            f"{what} needs a metric, but validation computes none"
            if name == "auto"
            else f"{what} selects the metric '{name}', which validation does not compute",
            key=key,
            suggestion=suggestion,
            notes=[f"metrics: {', '.join(metrics) or 'none'}", *notes, *([advice] if suggestion is None else [])],
        )


def find_rule(key: str, greater: Sequence[str] = GREATER, less: Sequence[str] = LESS) -> Rule | None:
    """Returns "greater" if higher values of a metric are better, "less" if lower values are, or None if unknown.

    Matches the whole name first, then its words, then parts of words. If matches contradict each other, as in
    "iou_loss", the result is None.

    Args:
        key: The name of the metric.
        greater: Metric names, or parts of names, for which higher is better.
        less: Metric names, or parts of names, for which lower is better.

    Example:
        >>> find_rule("coco/bbox_mAP"), find_rule("val_loss"), find_rule("score")
        ('greater', 'less', None)
    """
    lower = key.lower()
    rules: tuple[tuple[Rule, Sequence[str], frozenset[str]], ...] = (
        ("greater", [name.lower() for name in greater], _GREATER_WORDS),
        ("less", [name.lower() for name in less], _LESS_WORDS),
    )
    words = {part for word, digits in re.findall("([a-z]+)([0-9]*)", lower) for part in (word, word + digits)}
    steps = (
        [rule for rule, names, _ in rules if lower in names],
        [rule for rule, _, known in rules if words & known],
        [rule for rule, names, _ in rules if any(name in lower for name in names)],
    )
    matches = next(filter(None, steps), [])
    return matches[0] if len(matches) == 1 else None


def check_rule(rule: str) -> Rule:
    """Checks that `rule` is "greater" or "less", and returns it.

    Raises:
        ArgumentError: The rule is neither "greater" nor "less".
    """
    return cast(Rule, check_choice("rule", rule, ("greater", "less")))


def expand_rules(metrics: Sequence[str], rules: Sequence[str]) -> list[Rule | None]:
    """Returns one rule per metric: None if `rules` is empty. A single rule applies to all metrics.

    Raises:
        ArgumentError: A rule is unknown, or there are more or fewer rules than metrics.
    """
    if len(rules) not in (0, 1, len(metrics)):
        raise ArgumentError("rule must have one value, or one value per save_best metric", key="rule", found=rules)
    checked: list[Rule | None] = [check_rule(rule) for rule in rules] or [None]
    return checked * len(metrics) if len(checked) == 1 else checked


def is_better(value: float, than: float, rule: str, by: float = 0.0) -> bool:
    """Checks whether `value` beats `than` by more than `by`. NaN is never better."""
    return value - than > by if rule == "greater" else than - value > by


def order_metrics(names: Iterable[str], first: Sequence[str] = ()) -> list[str]:
    """Returns the metrics in display order, starting with `first`. Omits `support` and per-class results.

    Args:
        names: All metrics.
        first: The `save_best` metrics, which are included even if they are per-class results. Names that are not in
            `names` are ignored.
    """
    present = dict.fromkeys(names)
    selected = [name for name in first if name in present]
    # `support` is a number of samples, which is neither better nor worse.
    scores = [name for name in present if name.partition(".")[0].rpartition("/")[2] != "support"]
    return list(dict.fromkeys([*selected, *(name for name in scores if not is_of_class(name, present))]))


def validation_label(name: str, recorded: Container[str]) -> str:
    """Returns the label of a validation scalar in logs: `val/<name>` if training logs the same name, otherwise `name`.

    The metrics of a validation set named "test" also get the prefix, because a test run logs `test/<name>`.

    Args:
        name: The name of the metric or loss.
        recorded: The keys of all recorded scalars, such as `train/loss_cls`. `loss`, `time` and `data_time` get the
            prefix even if this is empty, because every training run logs them.
    """
    is_trained = name in _LOGGED_BY_EVERY_TRAINING or f"train/{name}" in recorded
    return _VALIDATION + name if is_trained or name.startswith("test/") else name


def metric_of_label(label: str) -> str:
    """Returns the metric name for a label that `validation_label` returned."""
    return label.removeprefix(_VALIDATION)


def find_metric(name: str, metrics: Container[str]) -> str:
    """Returns the metric that a setting refers to, either by its name or by its label in logs, `val/<name>`.

    Returns `name` unchanged if neither is in `metrics`.

    >>> find_metric("val/loss", ["loss", "accuracy"]), find_metric("accuracy", ["loss", "accuracy"])
    ('loss', 'accuracy')
    """
    metric = metric_of_label(name)
    return metric if metric in metrics and name not in metrics else name


def split_dataset(name: str) -> tuple[str, str]:
    """Splits a metric name into the prefix of its dataset or metric ("" if it has none) and the rest.

    >>> split_dataset("night/mIoU"), split_dataset("IoU.T-shirt/top")
    (('night', 'mIoU'), ('', 'IoU.T-shirt/top'))
    """
    prefix, slash, _ = name.partition(".")[0].partition("/")  # names of classes may contain slashes
    return (prefix, name[len(prefix) + 1 :]) if slash else ("", name)


def only_term(values: Mapping[str, Any]) -> str | None:
    """Returns the name of the only loss term if it equals the total loss, or None otherwise.

    Showing such a term next to the total loss would be redundant.

    >>> only_term({"loss": 0.5, "loss_ce": 0.5, "acc": 90.0})
    'loss_ce'
    """
    names = sorted((name for name in values if "loss" in name), key=len)
    ends = [name.rpartition("/")[2] for name in names]
    is_pair = len(ends) == 2 and ends[0] == "loss" != ends[1]  # not the losses of two datasets
    return names[1] if is_pair and values[names[0]] == values[names[1]] else None


def is_of_class(name: str, names: Container[str]) -> bool:
    """Checks whether a metric is a per-class result, given the names of all metrics.

    `IoU.shoe` is a per-class result if there is a mean `mIoU`. `shoe_precision` and `segm_shoe_precision` are per-class
    results if there is a `bbox_mAP` or `segm_mAP`.
    """
    whole, dot, _ = name.partition(".")  # names of classes may contain slashes
    before, slash, stem = whole.rpartition("/")
    if dot and f"{before}{slash}m{stem}" in names:
        return True
    prefixes = ["", *(name[: match.end()] for match in re.finditer("/", name))]
    return name.endswith("_precision") and any(
        f"{prefix}{output}_mAP" in names for prefix in prefixes for output in ("bbox", "segm")
    )
