from types import MethodType

import pytest
import torch
from torch import nn

from footplate.config import Config
from footplate.tools.failing_module import module_error


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(inputs)
        return out


def project(self: nn.Linear, inputs: torch.Tensor) -> torch.Tensor:
    return inputs @ self.weight.T


@pytest.mark.parametrize("is_replaced", [False, True])
def test_failing_module_is_found_for_any_name_of_its_function(is_replaced: bool) -> None:
    model = Net()
    if is_replaced:
        model.head.forward = MethodType(project, model.head)  # type: ignore[method-assign]
    with pytest.raises(RuntimeError) as caught:
        model(torch.zeros(3, 5))
    found = module_error("training", caught.value, Config({"model": {"type": "Net", "head": {"type": "Linear"}}}))
    assert found is not None
    lines = str(found).splitlines()
    assert lines[0].startswith("training fails in head: RuntimeError: ")
    assert lines[1:] == [
        "  key model.head",
        "  head is Linear(in_features=4, out_features=2, bias=True); its input is (3, 5)",
        "  Make channels and classes fit each other; --debug shows where",
    ]
