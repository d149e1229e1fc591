import logging
import multiprocessing
import pickle
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from footplate import Config, Runner
from footplate.distributed import unwrap_model
from footplate.engine import learning_rate_scaling
from footplate.engine.learning_rate_scaling import scale_learning_rates
from footplate.errors import ArgumentError
from footplate.optim import OptimWrapper, build_optim_wrapper
from tests.support import ToyModel, loader, settings


def rates(wrapper: Any) -> list[float]:
    return [float(group["lr"]) for group in wrapper.param_groups]


@pytest.mark.parametrize("kind", ["SGD", "AdamW", "LARS", "RMSprop"])
@pytest.mark.parametrize(("world", "base", "factor"), [(1, 16, 0.5), (4, 16, 2.0), (3, 8, 3.0)])
def test_rates_scale_with_the_batch_size(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: str, world: int, base: int, factor: float
) -> None:
    monkeypatch.setattr(learning_rate_scaling, "get_world_size", lambda: world)
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    cfg = {"optimizer": {"type": kind, "lr": 0.1}, "paramwise_cfg": {"custom_keys": {"0": {"lr_mult": 0.1}}}}
    wrapper = build_optim_wrapper(model, cfg)
    with caplog.at_level(logging.INFO, logger="footplate"):
        scale_learning_rates(wrapper, SimpleNamespace(batch_size=8), {"enable": True, "base_batch_size": base})
    assert sorted(rates(wrapper)) == pytest.approx([0.01 * factor, 0.1 * factor])
    (line,) = [record.getMessage() for record in caplog.records if "auto_scale_lr" in record.getMessage()]
    arithmetic = f"{world} x 8 samples on {world} processes = {8 * world}, / base_batch_size {base} = x {factor:g}"
    assert arithmetic in line
    assert f"lr 0.1 -> {0.1 * factor:g}" in line
    assert f"lr 0.01 -> {0.01 * factor:g}" in line or f"0.01 -> {0.01 * factor:g}" in line


class Prodigy(torch.optim.SGD):
    """A stand-in for an optimizer that adapts its own learning rate."""


def test_optimizers_with_their_own_step_size_are_not_scaled(caplog: pytest.LogCaptureFixture) -> None:
    wrapper = OptimWrapper(Prodigy(nn.Linear(1, 1).parameters(), lr=1.0))
    with caplog.at_level(logging.INFO, logger="footplate"):
        scale_learning_rates(wrapper, SimpleNamespace(batch_size=8), {"enable": True, "base_batch_size": 2})
    assert rates(wrapper) == [1.0]
    assert "Prodigy computes its own step size" in caplog.text


def test_several_optimizers_and_tensor_rates() -> None:
    model = nn.ModuleDict({"a": nn.Linear(1, 1), "b": nn.Linear(1, 1)})
    section = {"optimizer": {"type": "SGD", "lr": 0.2}}
    wrapper = build_optim_wrapper(model, {"a": section, "b": {**section, "compile": {"backend": "eager"}}})
    scale_learning_rates(wrapper, SimpleNamespace(batch_size=2), {"enable": True, "base_batch_size": 4})
    assert [float(group["lr"]) for part in wrapper.parts.values() for group in part.param_groups] == pytest.approx(
        [0.1, 0.1]
    )


@pytest.mark.parametrize("cfg", [None, {}, {"enable": False, "base_batch_size": 2}, {"base_batch_size": 2}])
def test_rates_are_not_scaled_by_default(cfg: Any) -> None:
    wrapper = build_optim_wrapper(nn.Linear(1, 1), {"optimizer": {"type": "SGD", "lr": 0.2}})
    scale_learning_rates(wrapper, SimpleNamespace(batch_size=8), cfg)
    assert rates(wrapper) == [0.2]


@pytest.mark.parametrize(
    ("cfg", "message", "key"),
    [
        ({"enable": True, "base_batchsize": 2}, "auto_scale_lr has no key 'base_batchsize'", "base_batchsize"),
        ({"enable": "yes", "base_batch_size": 2}, "enable must be True or False", "enable"),
        ({"enable": True, "base_batch_size": 0}, "base_batch_size", "base_batch_size"),
        ({"enable": True, "base_batch_size": 2}, "the training loader has no batch_size", "enable"),
    ],
)
def test_mistakes_are_named(cfg: dict[str, Any], message: str, key: str) -> None:
    wrapper = build_optim_wrapper(nn.Linear(1, 1), {"optimizer": {"type": "SGD", "lr": 0.2}})
    with pytest.raises(ArgumentError, match=message) as caught:
        scale_learning_rates(wrapper, [1, 2], cfg)
    assert caught.value.key == key


def test_batch_size_of_a_batch_sampler() -> None:
    wrapper = build_optim_wrapper(nn.Linear(1, 1), {"optimizer": {"type": "SGD", "lr": 0.2}})
    told = SimpleNamespace(batch_size=None, batch_sampler=SimpleNamespace(batch_size=3))
    scale_learning_rates(wrapper, told, {"enable": True, "base_batch_size": 6})
    assert rates(wrapper) == [0.1]


FIRST_GENERATION = """
custom_imports = dict(imports=["tests.support"])
model = dict(type="ToyModel")
data = dict(
    samples_per_gpu=4,
    workers_per_gpu=0,
    train=dict(type="Points"),
    train_dataloader=dict(collate_fn="default_collate"),
)
optimizer = dict(type="SGD", lr=0.1)
optimizer_config = dict()
lr_config = dict(policy="fixed")
runner = dict(type="EpochBasedRunner", max_epochs=1)
auto_scale_lr = dict(enable=True, base_batch_size=16)
"""


def test_auto_scale_lr_in_both_generations(tmp_path: Path) -> None:
    (tmp_path / "first.py").write_text(FIRST_GENERATION)
    first = Config.fromfile(str(tmp_path / "first.py"))
    first["work_dir"] = str(tmp_path / "first")
    second = settings(tmp_path / "second", auto_scale_lr={"enable": True, "base_batch_size": 16}, param_scheduler=None)
    for runner in (Runner.from_cfg(first), Runner(**second)):
        assert rates(runner.optim_wrapper) == pytest.approx([0.1 * 4 / 16])


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
