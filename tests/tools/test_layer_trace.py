import math

import pytest
import torch
from torch import Tensor, nn

from footplate.tools.layer_trace import LayerTrace, Reading, readable_tensors


class Net(nn.Module):
    """Two layers; the outputs of the second come in a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False)
        with torch.no_grad():
            self.first.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
            self.second.weight.fill_(1.0)

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        return {"score": self.second(self.first(inputs)).log()}


@pytest.mark.parametrize(
    ("values", "nans", "infinities", "low", "high"),
    [
        ([1.0, -2.0], 0, 0, -2.0, 1.0),
        ([math.nan, 3.0, math.inf, -math.inf], 1, 2, 3.0, 3.0),
        ([math.nan], 1, 0, math.nan, math.nan),
        ([], 0, 0, math.nan, math.nan),
    ],
)
def test_reading_of_a_tensor(values: list[float], nans: int, infinities: int, low: float, high: float) -> None:
    found = Reading.of(torch.tensor(values), "", "Linear")
    assert (found.name, found.nans, found.infinities) == ("(model)", nans, infinities)
    assert [found.low, found.high] == pytest.approx([low, high], nan_ok=True)
    assert found.finite is not bool(nans or infinities)


def test_layers_are_recorded_in_the_order_of_computation() -> None:
    model = Net()
    trace = LayerTrace(model)
    model(torch.tensor([[1.0, 1.0]]))["score"].sum().backward()
    assert [(each.name, each.kind, each.low) for each in trace.outputs] == [
        ("first", "Linear", 1.0),
        ("second", "Linear", 3.0),
        ("(model)", "Net.score", pytest.approx(math.log(3.0))),
    ]
    assert [each.name for each in trace.flowing] == ["(model)", "second", "first"]
    assert [(each.name, each.shape) for each in trace.gradients] == [
        ("second.weight", (1, 2)),
        ("first.weight", (2, 2)),
    ]


@pytest.mark.parametrize(
    ("broken", "notes"),
    [("input", "inputs non-finite, weights finite"), ("weight", "inputs finite, weights non-finite")],
)
def test_non_finite_output_has_a_note_about_inputs_and_weights(broken: str, notes: str) -> None:
    model = Net()
    if broken == "weight":
        model.first.weight.data[0, 0] = math.nan
    trace = LayerTrace(model)
    model(torch.tensor([[math.inf if broken == "input" else 1.0, 1.0]]))
    assert trace.outputs[0].notes == notes


def test_trace_does_not_change_the_model_and_is_removed() -> None:
    model, twin = Net(), Net()
    trace = LayerTrace(model)
    inputs = torch.rand(3, 2)
    model(inputs)["score"].sum().backward()
    twin(inputs)["score"].sum().backward()
    assert torch.equal(model.first.weight.grad, twin.first.weight.grad)  # type: ignore[arg-type]
    trace.close()
    model(inputs)["score"].sum().backward()
    assert (len(trace.outputs), len(trace.gradients)) == (3, 2)


def test_tensors_are_found_in_nested_values() -> None:
    found = readable_tensors({"a": [torch.zeros(1), (torch.ones(1), torch.ones(1, dtype=torch.int64))], "b": None})
    assert [(key, float(each)) for key, each in found] == [(".a[0]", 0.0), (".a[1][0]", 1.0)]


def test_complex_tensor_is_read_by_real_and_imaginary_parts() -> None:
    found = Reading.of(torch.tensor([1 - 2j, complex(math.nan, 5), 3j]), "layer", "gradient")
    assert (found.nans, found.low, found.high, found.shape) == (1, -2.0, 3.0, (3,))
    assert [key for key, _ in readable_tensors({"a": torch.zeros(1, dtype=torch.complex64)})] == [".a"]
