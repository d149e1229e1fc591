import math

import pytest

from footplate.evaluation.metric_functions import FunctionMetric


@pytest.mark.parametrize(
    ("values", "mean"), [([1.0, 2.0], 1.5), ([math.inf, 1.0], math.inf), ([math.inf, -math.inf], math.nan)]
)
def test_mean_of_a_function_may_be_non_finite(values: list[float], mean: float) -> None:
    metric = FunctionMetric(max, "score")
    assert metric.compute_metrics([{"score": value} for value in values]) == {"score": pytest.approx(mean, nan_ok=True)}
