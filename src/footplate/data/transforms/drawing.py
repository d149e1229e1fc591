"""Random distributions that several transforms use."""

import math

import numpy as np


def log_uniform(low: float, high: float) -> float:
    """Returns a random number between two positive numbers whose logarithm is uniformly distributed."""
    return math.exp(np.random.uniform(math.log(low), math.log(high)))
