from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    ReduceLROnPlateau,
    SequentialLR,
)
from torch.utils.data import DataLoader, TensorDataset

from footplate import Runner
from footplate.checkpoint import load_checkpoint
from footplate.checkpoint.serializable import to_serializable
from footplate.errors import ArgumentError
from footplate.optim import OptimWrapper, OptimWrapperDict, build_param_schedulers
from footplate.optim.schedules.torch_schedule import TorchSchedule


def made(kind: type[LRScheduler], lr: float = 0.1) -> tuple[SGD, TorchSchedule]:
    optimizer = SGD([torch.nn.Parameter(torch.ones(1))], lr=lr)
    if kind is LambdaLR:
        return optimizer, TorchSchedule(optimizer, LambdaLR(optimizer, lambda step: 1 / (step + 1)))
    parts: list[LRScheduler] = [LinearLR(optimizer, 0.1, 1, 3), MultiStepLR(optimizer, [2, 4])]
    scheduler = SequentialLR(optimizer, parts, [3]) if kind is SequentialLR else ChainedScheduler(parts)
    return optimizer, TorchSchedule(optimizer, scheduler)


def rates(optimizer: SGD, schedule: TorchSchedule, count: int) -> list[float]:
    found = []
    for _ in range(count):
        optimizer.step()
        schedule.step()
        found += schedule.get_last_value()
    return found


@pytest.mark.parametrize("kind", [SequentialLR, ChainedScheduler])
@pytest.mark.parametrize("done", [3, 5])
def test_schedulers_in_a_scheduler_resume_exactly(tmp_path: Path, kind: type[LRScheduler], done: int) -> None:
    expected = rates(*made(kind), 10)
    optimizer, schedule = made(kind)
    rates(optimizer, schedule, done)
    path = tmp_path / "state.pth"
    torch.save(to_serializable({"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}), path)
    state = load_checkpoint(path)
    optimizer, schedule = made(kind)
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    assert rates(optimizer, schedule, 10 - done) == expected[done:]


def test_other_scheduler_after_one_cycle_starts_from_the_learning_rate_of_the_optimizer(tmp_path: Path) -> None:
    data = DataLoader(TensorDataset(torch.ones(8, 1), torch.ones(8, 1)), 2)
    for epochs in (1, 2):
        model = torch.nn.Linear(1, 1)
        optimizer = SGD(model.parameters(), lr=0.1)
        schedule = OneCycleLR(optimizer, 0.1, total_steps=4) if epochs == 1 else MultiStepLR(optimizer, [9])
        settings: dict[str, Any] = {
            "train_dataloader": data,
            "loss": torch.nn.MSELoss(),
            "resume": "auto",
            "max_epochs": epochs,
        }
        Runner(model, tmp_path, optim_wrapper=optimizer, param_scheduler=schedule, **settings).train()
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_schedulers_of_several_optimizers_are_given_by_name() -> None:
    first, second = (SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1) for _ in range(2))
    wrapper = OptimWrapperDict(a=OptimWrapper(first), b=OptimWrapper(second))
    given = {"a": MultiStepLR(first, [1]), "b": {"scheduler": MultiStepLR(second, [1]), "by_epoch": False}}
    built = build_param_schedulers(given, wrapper)
    assert isinstance(built, dict)
    assert [built[name][0].by_epoch for name in ("a", "b")] == [True, False]
    for wrong in (given["a"], given["b"], list(given.values())):
        with pytest.raises(ArgumentError, match=r"of a different optimizer(.|\n)*pass a dict"):
            build_param_schedulers(wrong, wrapper)


def one_cycle(steps: int) -> tuple[SGD, OneCycleLR]:
    optimizer = SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    return optimizer, OneCycleLR(optimizer, 0.1, total_steps=steps)


def test_settings_that_the_state_replaces_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    shorter, saved, longer = (TorchSchedule(*one_cycle(steps)) for steps in (8, 9, 10))
    rates(saved.scheduler.optimizer, saved, 3)
    TorchSchedule(*one_cycle(9)).load_state_dict(saved.state_dict())
    shorter.load_state_dict(saved.state_dict())
    (message,) = caplog.messages
    assert message.startswith(
        "Ignoring the new settings total_steps=8, schedule_phases of OneCycleLR and resuming with the saved ones."
    )
    with pytest.raises(ArgumentError, match="the OneCycleLR in the checkpoint has 9 steps, but the new one has 10"):
        longer.load_state_dict(saved.state_dict())
    state = made(SequentialLR)[1].state_dict()
    state["first"] |= {"milestones": [2], "schedulers[0].total_iters": 2}
    made(SequentialLR)[1].load_state_dict(state)
    assert "settings milestones=3, schedulers[0].total_iters=3 of SequentialLR" in caplog.messages[1]


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        (
            lambda optimizer: LinearLR(optimizer, 1, 0, 3),
            "LinearLR (by iteration) ends at 3, before the end of training",
        ),
        (lambda optimizer: LinearLR(optimizer, 0.1, 1, 3), ""),
        (
            lambda optimizer: LambdaLR(optimizer, lambda step: max(0, 3 - step)),
            "LambdaLR (by iteration) has the factor 0",
        ),
        (lambda optimizer: LambdaLR(optimizer, lambda step: max(0, 6 - step)), ""),
        (
            lambda optimizer: SequentialLR(optimizer, [ConstantLR(optimizer), PolynomialLR(optimizer, 2)], [1]),
            "SequentialLR (by iteration) ends at 3",
        ),
        (lambda optimizer: CosineAnnealingLR(optimizer, 3), ""),
    ],
)
def test_schedulers_that_are_over_are_reported(caplog: pytest.LogCaptureFixture, scheduler: Any, message: str) -> None:
    optimizer = SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    build_param_schedulers({"scheduler": scheduler(optimizer), "by_epoch": False}, OptimWrapper(optimizer), max_iters=6)
    assert "".join(caplog.messages).startswith(message)
    assert bool(caplog.messages) == bool(message)


@pytest.mark.parametrize("is_torch", [True, False])
def test_a_reduced_learning_rate_is_not_raised_silently(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, is_torch: bool
) -> None:
    def run(epochs: int, **settings: Any) -> None:
        model = torch.nn.Linear(1, 1)
        optimizer = SGD(model.parameters(), lr=0.1)
        schedule: Any = {"type": "ReduceOnPlateauLR", "patience": 0, "threshold": 9, "threshold_rule": "abs"}
        if is_torch:
            schedule = ReduceLROnPlateau(optimizer, patience=0, threshold=9, threshold_mode="abs")
        data = DataLoader(TensorDataset(torch.ones(8, 1), torch.ones(8, 1)), 2)
        Runner(
            model,
            tmp_path,
            data,
            data,
            max_epochs=epochs,
            loss=torch.nn.MSELoss(),
            optim_wrapper=optimizer,
            param_scheduler=schedule,
            preflight=False,
            **settings,
        ).train()

    run(3)
    run(4, resume=True, resume_settings="take")
    expected = (
        "A schedule that monitors a metric starts over with lr 0.1. Before, it had reached 0.001. To continue with "
        "that value, set it in the optimizer."
    )
    assert expected in caplog.messages
