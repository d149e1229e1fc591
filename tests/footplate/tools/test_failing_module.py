import errno
from typing import Any

import pytest
import torch
from torch import nn

from footplate.advice import advise
from footplate.cli.error_messages import describe_error
from footplate.config import Config
from footplate.data.data_element import BaseDataElement
from footplate.engine.checking.invalid_labels import label_advice
from footplate.error_context import add_note
from footplate.tools.failing_module import is_out_of_memory, module_error
from footplate_vision.structures import PixelData


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(inputs)
        return out


def test_section_of_a_failing_module_may_be_in_a_list() -> None:
    model = nn.Sequential(Net(), Net())
    with pytest.raises(RuntimeError) as caught:
        model(torch.zeros(3, 4))  # the second one gets the output of the first one
    sections = [{"type": "Net"}, {"type": "Net", "head": {"type": "Linear"}}]
    found = module_error("training", caught.value, Config({"model": sections}))
    assert found is not None
    assert found.key == "model[1].head"


class Scored(Net):
    def __init__(self) -> None:
        super().__init__()
        self.loss = nn.CrossEntropyLoss()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.loss(super().forward(inputs), torch.tensor([0, 1, 3]))
        return out


def test_label_that_is_not_a_class_is_named() -> None:
    with pytest.raises(IndexError) as caught:
        Scored()(torch.zeros(3, 4))
    add_note(caught.value, *label_advice(caught.value))  # as a run does
    assert (
        _message(caught.value, Scored).count(
            "The data contains the label 3. Labels must be between 0 and the number of classes - 1."
        )
        == 1
    )


def test_known_error_of_a_module_has_its_advice_instead_of_a_general_one() -> None:
    class Normalized(Net):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(2)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.norm(super().forward(inputs))
            return out

    with pytest.raises(ValueError, match="more than 1 value per channel") as caught:
        Normalized()(torch.zeros(1, 4))
    advise(caught.value)  # as a run does
    message = _message(caught.value, Normalized)
    assert message.count("drop_last=True") == 1
    assert "norm is BatchNorm1d(2, " in message
    assert "Check that shapes" not in message


def _message(error: Exception, model: type) -> str:
    """Returns the message of a command about the error of a module."""
    found = module_error("training", error, Config({"model": {"type": model.__name__}}))
    assert found is not None
    found.__cause__ = error
    message, _ = describe_error(found) or ("", 0)
    return message


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


@pytest.mark.parametrize(
    "text", ["Torch not compiled with CUDA enabled", "Found no NVIDIA driver", "Default process group has not been"]
)
def test_code_for_a_gpu_or_a_process_group_is_not_a_wrong_shape(text: str) -> None:
    class OnGpu(Net):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            raise RuntimeError(text)

    with pytest.raises(RuntimeError) as caught:
        OnGpu()(torch.zeros(3, 4))
    assert module_error("training", caught.value, Config({"model": {"type": "OnGpu"}})) is None


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


@pytest.mark.parametrize(
    ("error", "is_lack"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
            True,
        ),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("the memory bank has 4 rows"), False),
    ],
)
def test_lack_of_memory_is_recognized(error: Exception, is_lack: bool) -> None:
    assert is_out_of_memory(error) is is_lack
