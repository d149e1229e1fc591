"""Random numbers that several transforms draw."""

import math

import numpy as np


def log_uniform(low: float, high: float) -> float:
    """Returns a number between two positive ones, as often above as below the geometric middle."""
    return math.exp(np.random.uniform(math.log(low), math.log(high)))
