"""Metrics, and the evaluator that runs them over a dataset."""

from footplate.evaluation.evaluator import Evaluator, build_evaluator, is_named
from footplate.evaluation.metric import (
    BaseMetric,
    DumpResults,
    EvaluationContext,
    check_samples,
    format_table,
    required_classes,
)

__all__ = [
    "BaseMetric",
    "DumpResults",
    "EvaluationContext",
    "Evaluator",
    "build_evaluator",
    "check_samples",
    "format_table",
    "is_named",
    "required_classes",
]
