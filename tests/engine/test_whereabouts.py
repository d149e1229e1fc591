import os
import sys
from pathlib import Path
from traceback import walk_stack, walk_tb
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import footplate.engine.train_loops
from footplate import Hook, Runner
from footplate.engine.signals import Requests
from footplate.engine.whereabouts import look
from footplate.models import BaseModel
from tests.support import Points, ToyModel, settings

_HERE = Path(__file__)


def _stack() -> tuple[str, bool, str]:
    return look([*walk_stack(sys._getframe(1))][::-1])


class Looks(Hook):
    """Records the stack in an event, and in code that it patches in."""

    def __init__(self, seen: dict[str, tuple[str, bool, str]]) -> None:
        self.seen = seen

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        self.seen["hook"] = _stack()


class Looking(torch.autograd.Function):
    """An identity function that records the stack in its backward pass."""

    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, seen: dict[str, Any]) -> torch.Tensor:
        ctx.seen = seen
        return inputs.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        ctx.seen["backward"] = _stack()
        return gradients[0], None


class LookingModel(ToyModel):
    def __init__(self, seen: dict[str, Any]) -> None:
        super().__init__()
        self.seen = seen

    def forward(self, inputs: torch.Tensor, labels: torch.Tensor, mode: str = "tensor") -> Any:
        self.seen[mode] = _stack()
        watched = Looking.apply(inputs.requires_grad_(mode == "loss"), self.seen)  # type: ignore[no-untyped-call]
        return super().forward(watched, labels, mode)


class LookingPoints(Points):
    def __init__(self, seen: dict[str, Any]) -> None:
        super().__init__()
        self.seen = seen

    def __getitem__(self, index: int) -> Any:
        self.seen["data"] = _stack()
        return super().__getitem__(index)


def test_what_a_run_is_at_in_its_users_words(tmp_path: Path) -> None:
    seen: dict[str, tuple[str, bool, str]] = {}
    cfg = settings(tmp_path, by_epoch=False, custom_hooks=[Looks(seen)], model=LookingModel(seen))
    cfg["train_dataloader"]["dataset"] = LookingPoints(seen)
    model: BaseModel = cfg["model"]
    Runner(**cfg).train()
    assert isinstance(model, LookingModel)
    assert {name: place[:2] for name, place in seen.items()} == {
        "hook": ("Looks.before_train_iter", False),
        "data": ("data loading", False),
        "loss": ("forward pass", False),
        "backward": ("backward pass", True),
        "predict": ("prediction", False),
    }
    assert {Path(place[2].rpartition(":")[0]).resolve() for place in seen.values()} == {_HERE.resolve()}


def test_the_place_of_an_error_is_read_from_its_traceback() -> None:
    def fails() -> None:
        raise ValueError

    with pytest.raises(ValueError) as caught:  # noqa: PT011
        fails()
    phase, waits, line = look([*walk_tb(caught.value.__traceback__)])
    number = next(n for n, text in enumerate(_HERE.read_text().splitlines(), 1) if text.strip() == "raise ValueError")
    assert (phase, waits, line.rpartition(":")[2]) == ("start", False, str(number))


def test_without_a_line_of_the_users_it_is_ours() -> None:
    def frame(file: str, line: int) -> Any:
        return SimpleNamespace(f_code=SimpleNamespace(co_filename=file, co_name="go"), f_locals={}), line

    library, ours = os.__file__, footplate.engine.train_loops.__file__
    stack = [frame("<frozen runpy>", 198), frame(ours, 3), frame(library, 4), frame(ours, 5), frame(library, 6)]
    assert look(stack) == ("start", False, f"{os.path.relpath(ours)}:5")
    assert look([*stack, frame("/x/my.py", 7), frame(library, 8)])[2] == "/x/my.py:7"
    assert look(stack[:1])[2] == ""


def test_a_rank_that_lost_a_worker_was_loading_data() -> None:
    requests = Requests()
    requests._lost = RuntimeError("a worker died")
    with pytest.raises(RuntimeError, match="a worker died") as caught:
        requests.raise_lost()
    phase, waits, _ = look([*walk_tb(caught.value.__traceback__)])
    assert (phase, waits) == ("data loading", False)
    requests.raise_lost()  # it is raised only once
