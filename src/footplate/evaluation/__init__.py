"""Metrics over a data set, and the evaluator that feeds them."""

from footplate.evaluation.evaluator import Evaluator, build_evaluator
from footplate.evaluation.metric import BaseMetric, DumpResults, check_samples

__all__ = ["BaseMetric", "DumpResults", "Evaluator", "build_evaluator", "check_samples"]
