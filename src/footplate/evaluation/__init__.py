"""Metrics, and the evaluator that runs them over a dataset."""

from footplate.evaluation.evaluator import Evaluator, build_evaluator
from footplate.evaluation.metric import BaseMetric, DumpResults, check_samples

__all__ = ["BaseMetric", "DumpResults", "Evaluator", "build_evaluator", "check_samples"]
