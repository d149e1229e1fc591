import pytest
import torch

from footplate.openmmlab.mmengine.analysis import get_model_complexity_info


def test_inputs_may_be_passed_together_with_their_shape() -> None:
    model = torch.nn.Conv2d(3, 2, 1)
    info = get_model_complexity_info(model, (3, 4, 4), inputs=torch.zeros(1, 3, 4, 4))
    assert info["flops"] == 3 * 2 * 4 * 4
    for shape, inputs in ((None, None), ((3, 4, 5), torch.zeros(1, 3, 4, 4))):
        with pytest.raises(ValueError, match="Pass 'input_shape' or 'inputs'"):
            get_model_complexity_info(model, shape, inputs=inputs)
