"""Metrics, and the evaluator that computes them over a dataset."""

from footplate.evaluation.evaluator import Evaluator, TorchMetric, build_evaluator, is_named
from footplate.evaluation.metric import BaseMetric, DumpResults, EvaluationContext

__all__ = [
    "BaseMetric",
    "DumpResults",
    "EvaluationContext",
    "Evaluator",
    "TorchMetric",
    "build_evaluator",
    "is_named",
]
