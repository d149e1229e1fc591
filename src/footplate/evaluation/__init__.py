"""Metrics, and the evaluator that runs them over a dataset."""

from footplate.evaluation.evaluator import Evaluator, build_evaluator
from footplate.evaluation.metric import BaseMetric, DumpResults, check_samples, required_classes
from footplate.evaluation.metric_functions import is_named
from footplate.evaluation.per_class import EvaluationContext

__all__ = [
    "BaseMetric",
    "DumpResults",
    "EvaluationContext",
    "Evaluator",
    "build_evaluator",
    "check_samples",
    "is_named",
    "required_classes",
]
