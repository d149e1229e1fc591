import numpy as np
import pytest
import torch

from footplate.tasks.classification.metric import rank_of_truth


@pytest.mark.parametrize("seed", range(20))
def test_ranks_agree_with_a_stable_sort(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 4, size=(30, 6)).astype(np.float32)  # few values: many ties
    truth = rng.integers(0, 6, size=30)
    order = np.argsort(-scores, axis=1, kind="stable")
    expected = [order[row].tolist().index(truth[row]) for row in range(30)]
    assert rank_of_truth(torch.from_numpy(scores), torch.from_numpy(truth)).tolist() == expected
