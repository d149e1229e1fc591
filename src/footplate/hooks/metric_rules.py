"""Determines whether a metric should be high or low, and compares its values."""

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any, Literal

from footplate.engine import Runner
from footplate.errors import ArgumentError
from footplate.messages import nearest
from footplate.records.scalar_names import is_of_dataset, metric_of_label

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


def rule_of(key: str, greater: Sequence[str] = GREATER, less: Sequence[str] = LESS, *, named_by: str = "rule") -> Rule:
    """Returns the rule of a metric: by its whole name, then by a part of it, then by a word that is known in the field.

    Args:
        key: The metric.
        greater: Names, or parts of names, of metrics for which greater is better.
        less: Names, or parts of names, of metrics for which less is better.
        named_by: The config key that holds the metric, for the error.

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
    words = {part for word, digits in re.findall("([a-z]+)([0-9]*)", lower) for part in (word, word + digits)}
    if words & _GREATER_WORDS and not words & _LESS_WORDS:
        return "greater"
    if words & _LESS_WORDS and not words & _GREATER_WORDS:
        return "less"
    raise ArgumentError(
        f"whether '{key}' should be great or small is not known",
        key=named_by,
        notes=["say rule='greater' or rule='less'"],
    )


def checked_rule(rule: str) -> Rule:
    """Checks a rule of a config and returns it.

    Raises:
        ArgumentError: It is neither "greater" nor "less".
    """
    if rule == "greater" or rule == "less":
        return "greater" if rule == "greater" else "less"
    raise ArgumentError("a rule is 'greater' or 'less'", key="rule", found=rule)


def is_better(value: float, than: float, rule: str, by: float = 0.0) -> bool:
    """Checks whether a value is better than another by more than `by`. NaN never is."""
    return value - than > by if rule == "greater" else than - value > by


def saved_best(cfg: Mapping[str, Any]) -> list[str]:
    """Returns the metrics of `save_best` in a config of either generation; "auto" can be one of them."""
    hook = (cfg.get("default_hooks") or {}).get("checkpoint") or cfg.get("checkpoint_config") or {}
    best = hook.get("save_best") or (cfg.get("evaluation") or {}).get("save_best") or []
    return [best] if isinstance(best, str) else list(best)


def saved_rules(cfg: Mapping[str, Any]) -> dict[str, Rule]:
    """Returns the rules that a config sets for the metrics of `save_best`."""
    hook = (cfg.get("default_hooks") or {}).get("checkpoint") or {}
    stated = hook.get("rule") or (cfg.get("evaluation") or {}).get("rule") or []
    best, rules = saved_best(cfg), [stated] if isinstance(stated, str) else list(stated)
    rules = rules * len(best) if len(rules) == 1 else rules
    return {name: checked_rule(rule) for name, rule in zip(best, rules, strict=False)}


def as_shown(names: Iterable[str], counting: Sequence[str] = ()) -> list[str]:
    """Returns metrics in display order: those in `counting` first, without per-class results and `support`.

    Args:
        names: All metrics. `IoU.shoe` is a per-class result if there is the mean `mIoU`, and so is `shoe_precision` or
            `segm_shoe_precision` if there is `bbox_mAP` or `segm_mAP`.
        counting: The metrics of `save_best`, which are shown in any case.
    """
    there = dict.fromkeys(names)
    first = [name for name in dict.fromkeys(counting) if name in there]
    return first + [name for name in there if name not in first and not _is_left_aside(name, there)]


def _is_left_aside(name: str, there: Container[str]) -> bool:
    whole, dot, _ = name.partition(".")  # names of classes can contain slashes too
    before, slash, stem = whole.rpartition("/")
    if stem == "support":  # a count of samples, which is neither better nor worse
        return True
    if dot and f"{before}{slash}m{stem}" in there:
        return True
    sets = ["", *(name[: each.end()] for each in re.finditer("/", name))] if name.endswith("_precision") else []
    return any(f"{each}{kind}_mAP" in there for each in sets for kind in ("bbox", "segm"))


class MissingMetricError(ArgumentError):
    """Raised when the config or a flag names a metric that no evaluator gives."""


def missing_metric(what: str, name: str, metrics: Mapping[str, object] | Sequence[str], key: str) -> MissingMetricError:
    """Returns the error for a metric that a hook needs and no evaluator gives.

    Args:
        what: What names the metric, such as "save_best".
        name: The metric.
        metrics: The existing metrics.
        key: The key path of the setting in the config.
    """
    written = metric_of_label(name)
    return MissingMetricError(
        f"{what} names '{name}', which no metric gives",
        key=key,
        suggestion=written if written in metrics else nearest(name, metrics),
        notes=[f"metrics: {', '.join(metrics) or 'none'}"],
    )


def is_left_out(runner: Runner, name: str) -> bool:
    """Checks whether a metric belongs to a dataset that this validation skipped; see `ValLoop`."""
    return is_of_dataset(name, getattr(runner.val_loop, "left_out", ()))
