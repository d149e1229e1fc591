from typing import Any

import pytest
import torch
from torch import nn

from footplate.config import Config
from footplate.data.data_element import BaseDataElement
from footplate.tools.failing_module import module_error
from footplate_vision.structures import PixelData


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(inputs)
        return out


class Scored(Net):
    def __init__(self) -> None:
        super().__init__()
        self.loss = nn.CrossEntropyLoss()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.loss(super().forward(inputs), torch.tensor([0, 1, 3]))
        return out


@pytest.mark.parametrize("field", ["gt_label", "gt_sem_seg"])
def test_file_with_a_label_that_is_not_a_class_is_named(field: str) -> None:
    class OfSamples(Scored):
        def forward(self, inputs: torch.Tensor, samples: Any = ()) -> torch.Tensor:
            return super().forward(inputs)

    samples = [BaseDataElement(metainfo={"img_path": name}) for name in ("a.png", "b.png")]
    for sample, label in zip(samples, (1, 3), strict=True):
        values = torch.full((1, 2, 2), label)
        sample.set_data({field: PixelData(data=values) if field == "gt_sem_seg" else values.flatten()})
    with pytest.raises(IndexError) as caught:
        OfSamples()(torch.zeros(3, 4), samples=samples)
    found = module_error("training", caught.value, Config({"model": {"type": "OfSamples"}}))
    assert "'b.png' contains the label 3. Labels must be between 0 and the number of classes - 1." in str(found)


class Doubling(torch.optim.SGD):
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        with torch.enable_grad():
            if closure is not None:
                closure()
        torch.zeros(1).backward()  # type: ignore[no-untyped-call]


class Trained(Net):
    def train_step(self, optimizer: torch.optim.Optimizer, closure: Any = None) -> None:
        optimizer.step(closure)


def test_failing_optimizer_is_found_and_not_the_model_that_called_it() -> None:
    cfg = Config({"model": {"type": "Net"}, "optim_wrapper": {"optimizer": {"type": "Doubling"}}})
    model = Trained()
    optimizer = Doubling(model.parameters(), lr=0.1)
    with pytest.raises(RuntimeError) as caught:
        model.train_step(optimizer)
    found = module_error("training", caught.value, cfg)
    assert found is not None
    assert found.key == "optim_wrapper.optimizer"
    assert str(found).startswith("training fails in Doubling: RuntimeError: element 0 of tensors does not require grad")
    with pytest.raises(RuntimeError) as caught:  # the model fails in the closure of the optimizer
        model.train_step(optimizer, lambda: model(torch.zeros(3, 5)))
    found = module_error("training", caught.value, cfg)
    assert found is not None
    assert str(found).startswith("training fails in head: ")
