import multiprocessing
import pickle
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from footplate import Runner
from footplate.distributed import unwrap_model
from tests.support import ToyModel, loader, settings


class Precise(ToyModel):
    """Uses double precision, so that only the order of sums can differ."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(11)
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                layer.reset_parameters()
        self.double()

    def forward(self, inputs: Tensor, labels: Tensor, mode: str = "tensor") -> Any:
        return super().forward(inputs.double(), labels, mode)


def trained(folder: Path, size: int, batch_size: int, **changes: Any) -> tuple[int, list[float]]:
    sampler = {"type": "DefaultSampler", "shuffle": True, "round_up": False}
    section: dict[str, Any] = {"sampler": sampler, "batch_size": batch_size}
    quiet = {"checkpoint": None, "logger": None}
    cfg = settings(folder, model=Precise(), train_dataloader=loader(size, **section), default_hooks=quiet, **changes)
    runner = Runner(**cfg)
    runner.train()
    weights = unwrap_model(runner.model).parameters()
    return runner.iter, [value for each in weights for value in each.detach().flatten().tolist()]


def train_on_rank(rank: int, world: int, port: int, folder: Path, args: tuple[Any, ...], more: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    (folder / f"{rank}.pkl").write_bytes(pickle.dumps(trained(folder, *args, **more)))
    dist.destroy_process_group()


def together(world: int, folder: Path, *args: Any, **more: Any) -> list[tuple[int, list[float]]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("fork")
    ranks = [
        context.Process(target=train_on_rank, args=(rank, world, port, folder, args, more)) for rank in range(world)
    ]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(60)
    assert [process.exitcode for process in ranks] == [0] * world
    return [pickle.loads((folder / f"{rank}.pkl").read_bytes()) for rank in range(world)]


@pytest.mark.parametrize(
    ("size", "batch_size"),
    [(9, 4), (11, 4), (1, 2)],
    ids=["a rank without a last batch", "last batches of 2 and 1", "a rank without samples"],
)
def test_two_processes_end_a_pass_together_and_as_one(tmp_path: Path, size: int, batch_size: int) -> None:
    alone = trained(tmp_path / "alone", size, 2 * batch_size)
    for found in together(2, tmp_path, size, batch_size):
        assert found[0] == alone[0] == 3 * -(-size // (2 * batch_size))
        assert found[1] == pytest.approx(alone[1], rel=1e-12, abs=1e-14)


def test_accumulated_steps_too(tmp_path: Path) -> None:
    wrapper = {"optimizer": {"type": "SGD", "lr": 0.1, "momentum": 0.9}, "accumulative_counts": 2}
    alone = trained(tmp_path / "alone", 11, 4, optim_wrapper=wrapper)
    for found in together(2, tmp_path, 11, 2, optim_wrapper=wrapper):
        assert found[1] == pytest.approx(alone[1], rel=1e-12, abs=1e-14)


def test_three_processes_and_iterations_through_several_passes(tmp_path: Path) -> None:
    counted = {"train_cfg": {"by_epoch": False, "max_iters": 7, "val_interval": 7}}
    alone = trained(tmp_path / "alone", 7, 6, **counted)
    for found in together(3, tmp_path, 7, 2, **counted):
        assert found[0] == 7
        assert found[1] == pytest.approx(alone[1], rel=1e-12, abs=1e-14)
