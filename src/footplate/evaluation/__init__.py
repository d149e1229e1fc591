"""Metrics, and the evaluator that runs them over a dataset."""

from footplate.evaluation.evaluator import Evaluator, build_evaluator
from footplate.evaluation.metric import (
    BaseMetric,
    DumpResults,
    EvaluationContext,
    check_samples,
    format_table,
    required_classes,
)
from footplate.evaluation.metric_functions import is_named

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
