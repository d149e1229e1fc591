import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from footplate import Runner
from tests.support import ToyModel, loader, settings


class WithMemory(ToyModel):
    """Remembers features in tensors of every kind."""

    kept: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.bank, self.replaced, self.constant = torch.zeros(4), torch.zeros(4), torch.zeros(4)
        self.register_buffer("kept", torch.zeros(4))
        self.layers.append(nn.utils.weight_norm(nn.Linear(2, 2)))
        self.last: Tensor | None = None

    def forward(self, inputs: Tensor, labels: Tensor, mode: str = "tensor") -> Any:
        if mode == "loss":
            self.bank[0] += 1
            self.kept[0] += 1
            self.replaced = self.replaced + 1
            self.last = inputs
        return super().forward(inputs, labels, mode)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_tensors_that_checkpoints_do_not_contain_are_reported_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Runner(**settings(tmp_path, model=WithMemory())).train()
    (message,) = [each for each in caplog.messages if "checkpoints do not contain" in each]
    assert "so a resumed run loses them: bank, replaced. If the model" in message


class Cached(nn.Module):
    """Keeps a tensor for a length, as rotary embeddings do, and prepares itself in the first forward pass."""

    length: int | None = None
    values: Tensor | None = None

    def __init__(self) -> None:
        super().__init__()
        self.length = self.values = None
        self.is_ready = False
        self.hooks = nn.Identity()

    def forward(self, inputs: Tensor) -> Tensor:
        if not self.is_ready:
            self.hooks.register_forward_hook(lambda module, args, output: setattr(self, "is_ready", True))
        self.hooks(inputs)
        assert self.is_ready
        if self.length != inputs.shape[1]:
            self.length, self.values = inputs.shape[1], torch.arange(inputs.shape[1])
        assert self.values is not None
        return self.values


class Scaled(ToyModel):
    """Draws the scale of its input every three iterations, as YOLOX does with the size of its images."""

    def __init__(self) -> None:
        super().__init__()
        self.size: tuple[float, float] | None = None
        self.steps = 0
        self.cached = Cached()

    def forward(self, inputs: Tensor, labels: Tensor, mode: str = "tensor") -> Any:
        if mode == "loss":
            self.cached(inputs)
            self.steps += 1
            if self.steps % 3 == 0:
                self.size = (random.random(), 1.0)
            inputs = inputs * self.size[0] if self.size else inputs
        return super().forward(inputs, labels, mode)


class Recurrent(ToyModel):
    """Adds the last batch's features, as models of video do."""

    def __init__(self) -> None:
        super().__init__()
        self.memory: Tensor | None = None

    def forward(self, inputs: Tensor, labels: Tensor, mode: str = "tensor") -> Any:
        if self.memory is not None:
            inputs = inputs + 0.5 * self.memory[:1]
        self.memory = inputs.detach()
        return super().forward(inputs, labels, mode)


@pytest.mark.parametrize(("model", "iteration", "preflight"), [(Scaled, 4, False), (Recurrent, 2, True)])
def test_attributes_that_training_changes_are_resumed(
    tmp_path: Path, model: type[ToyModel], iteration: int, preflight: bool
) -> None:
    def train(folder: str, **options: Any) -> dict[str, Tensor]:
        saving = {"checkpoint": {"by_epoch": False, "interval": 1}}
        options |= {"default_hooks": saving, "preflight": preflight}
        runner = Runner(**settings(tmp_path / folder, model=model(), **options))
        runner.train()
        return dict(runner.model.state_dict())

    whole = train("whole")
    resumed = train("resumed", load_from=str(tmp_path / f"whole/iter_{iteration}.pth"), resume=True)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


class Video(Recurrent):
    """Also replaces an attribute that no checkpoint contains."""

    def forward(self, inputs: Tensor, labels: Tensor, mode: str = "tensor") -> Any:
        self.frames = [len(inputs)]
        return super().forward(inputs, labels, mode)


def test_memory_that_is_not_saved_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    saving = {"checkpoint": {"by_epoch": False, "interval": 1}}
    Runner(**settings(tmp_path, model=Video(), default_hooks=saving)).train()
    (message,) = [each for each in caplog.messages if "checkpoints do not contain" in each]
    assert "loses them: memory." in message


def test_memory_is_left_out_where_it_does_not_fit(tmp_path: Path) -> None:
    def run(folder: str, model: ToyModel, **options: Any) -> None:
        saving = {"checkpoint": {"by_epoch": False, "interval": 1}}
        Runner(**settings(tmp_path / folder, model=model, default_hooks=saving, **options)).train()

    class Sparse(Recurrent):
        def forward(self, inputs: Tensor, labels: Tensor, mode: str = "tensor") -> Any:
            self.mask = torch.eye(2).to_sparse()
            return super().forward(inputs, labels, mode)

    run("sparse", Sparse())
    assert (tmp_path / "sparse/iter_2.pth").exists()
    run("whole", Whole())
    start = str(tmp_path / "whole/iter_2.pth")
    run("other", Whole(), load_from=start, resume=True, train_dataloader=loader(batch_size=2))


class Whole(ToyModel):
    """Adds a memory that has the size of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.memory: Tensor | None = None

    def forward(self, inputs: Tensor, labels: Tensor, mode: str = "tensor") -> Any:
        if mode == "loss":
            inputs = inputs if self.memory is None else inputs + self.memory
            self.memory = inputs.detach()
        return super().forward(inputs, labels, mode)
