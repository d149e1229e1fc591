"""The lines of code that make the host wait for an accelerator."""

import inspect
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from footplate.config import Config
from footplate.models import BaseModel
from footplate.registry import MODELS
from footplate.tools.check import check
from footplate.tools.synchronizations import counting_host_reads
from tests.support import TINY

VALUES, MASK = torch.arange(4.0), torch.tensor([True, False, True, False])


def lines_of(function: Callable[[], Any]) -> list[int]:
    """Returns the counts of the lines of a function that wait."""
    with counting_host_reads() as found:
        function()
    first = inspect.getsourcelines(function)[1]
    assert all(line.rpartition(":")[0].endswith("test_synchronizations.py") for line in found)
    assert all(int(line.rpartition(":")[2]) == first for line in found)
    return list(found.values())


@pytest.mark.parametrize(
    "function",
    [
        lambda: VALUES[0].item(),
        lambda: float(VALUES.sum()),
        lambda: bool((VALUES > 1).any()),
        lambda: VALUES.tolist(),
        lambda: VALUES.cpu(),
        lambda: VALUES.to("cpu"),
        lambda: VALUES.to(dtype=torch.float64, device="cpu"),
        lambda: torch.allclose(VALUES, VALUES),
        lambda: VALUES.repeat_interleave(VALUES.long()),
        lambda: VALUES.nonzero(),
        lambda: torch.where(MASK),
        lambda: VALUES[MASK],
        lambda: VALUES.masked_select(MASK),
        lambda: VALUES.unique(),  # type: ignore[no-untyped-call]
        lambda: torch.equal(VALUES, VALUES),
        lambda: VALUES.clone().__setitem__(MASK, VALUES[:2]),
    ],
)
def test_line_that_needs_values_on_the_host_is_counted(function: Callable[[], Any]) -> None:
    assert lines_of(function) == [1]


@pytest.mark.parametrize(
    "function",
    [
        lambda: torch.where(MASK, VALUES, 0.0),
        lambda: VALUES[torch.tensor([0, 2])],
        lambda: VALUES.clone().__setitem__(MASK, 0.0),
        lambda: VALUES.to(torch.float64).sum() * 2,
        lambda: len(VALUES) + VALUES.numel(),
        lambda: VALUES.repeat_interleave(2),
        lambda: VALUES.repeat_interleave(VALUES.long(), output_size=6),
        lambda: nn.functional.one_hot(VALUES.long(), 4),
    ],
)
def test_computation_without_values_on_the_host_is_not_counted(function: Callable[[], Any]) -> None:
    assert lines_of(function) == []


def test_optimizer_is_not_counted() -> None:
    layer = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.zeros(1, 2)).sum().backward()
    with counting_host_reads() as found:
        optimizer.step()
    assert found == Counter()


@MODELS.register_module()
class Waits(BaseModel):
    """A model that reads its scores twice in the forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, inputs: Tensor, labels: Tensor, mode: str = "tensor") -> Any:
        scores = self.layer(inputs)
        if mode == "loss":
            for each in scores[:2]:
                self.last = each.max().item()
            return {"loss": nn.functional.cross_entropy(scores, labels)}
        return list(zip(scores.argmax(1), labels, strict=True)) if mode == "predict" else scores


@pytest.mark.parametrize("model", ["Waits", "ToyModel"])
def test_check_shows_the_lines_of_the_model(tmp_path: Path, model: str) -> None:
    (tmp_path / "tiny.py").write_text(f"{TINY}\nmodel = dict(type={model!r})\nwork_dir = {str(tmp_path / 'work')!r}\n")
    checked = check(Config.fromfile(str(tmp_path / "tiny.py")))
    shown = [each for each in checked.text.splitlines() if each.startswith("waiting")]
    if model == "ToyModel":
        assert (shown, checked.measured["synchronizations"]) == ([], {})
        return
    source, first = inspect.getsourcelines(Waits)
    number = first + next(index for index, line in enumerate(source) if ".item()" in line)
    ((line, count),) = checked.measured["synchronizations"].items()
    assert (Path(line).name, count) == (f"test_synchronizations.py:{number}", 2)
    assert shown == [f"waiting     on an accelerator, the model would wait 2 times per iteration: {line} (2)"]
