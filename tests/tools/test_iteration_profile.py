import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from footplate import Hook
from footplate.cli.main import main
from footplate.config import Config
from footplate.engine import Runner
from footplate.engine.run_config import check_config
from footplate.errors import DataError
from footplate.models import BaseDataPreprocessor, BaseModel
from footplate.registry import DATASETS, HOOKS, MODELS, OPTIMIZERS
from footplate.tools import iteration_profile
from footplate.tools.iteration_profile import PARTS, _advice, profile_iterations


class Clock:
    """A clock that only advances when a component works."""

    time = 0.0


def work(seconds: float) -> None:
    Clock.time += seconds


@DATASETS.register_module()
class WorkingDataset(Dataset[Any]):
    def __init__(self, seconds: float = 0.25, length: int = 400) -> None:
        self.seconds, self.length = seconds, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        work(self.seconds)
        return {"inputs": torch.ones(3)}


@MODELS.register_module()
class WorkingPreprocessor(BaseDataPreprocessor):
    def forward(self, data: Any, training: bool = False) -> Any:
        work(2.0)
        return super().forward(data, training)


class Working(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        work(4.0)
        return values.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        work(8.0)
        return grads[0]


@MODELS.register_module()
class WorkingModel(BaseModel):
    def __init__(self, data_preprocessor: Any = None) -> None:
        super().__init__(data_preprocessor or {"type": "WorkingPreprocessor"})
        self.layer = nn.Linear(3, 1)

    def forward(self, inputs: Tensor, mode: str = "tensor") -> Any:
        found = Working.apply(self.layer(inputs))  # type: ignore[no-untyped-call]
        return {"loss": found.mean()} if mode == "loss" else found


@OPTIMIZERS.register_module()
class WorkingSGD(torch.optim.SGD):
    def step(self, closure: Any = None) -> Any:
        work(16.0)
        return super().step(closure)


@HOOKS.register_module()
class WorkingHook(Hook):
    def before_train_iter(self, runner: Any) -> None:  # type: ignore[override]
        work(12.0)

    def after_train_iter(self, runner: Any) -> None:  # type: ignore[override]
        work(20.0)


@HOOKS.register_module()
class WorkingEpochHook(Hook):
    def before_train_epoch(self, runner: Any) -> None:
        work(100.0)

    def after_train_epoch(self, runner: Any) -> None:
        work(200.0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock.time = 0.0
    monkeypatch.setattr(iteration_profile._Recorder, "now", lambda self: Clock.time)


def loader(seconds: float = 0.25) -> dict[str, Any]:
    dataset = {"type": "WorkingDataset", "seconds": seconds}
    return {"batch_size": 4, "dataset": dataset, "collate_fn": {"type": "default_collate"}}


def write_config(folder: Path, **changes: Any) -> Path:
    cfg = {
        "model": {"type": "WorkingModel"},
        "work_dir": str(folder / "work"),
        "train_dataloader": loader(),
        "train_cfg": {"by_epoch": True, "max_epochs": 9},
        "optim_wrapper": {"optimizer": {"type": "WorkingSGD", "lr": 0.1}},
        "custom_hooks": [{"type": "WorkingHook"}],
        **changes,
    }
    path = folder / "run.py"
    path.write_text("\n".join(f"{key} = {value!r}" for key, value in cfg.items()))
    return path


def config(folder: Path, **changes: Any) -> Config:
    return check_config(Config.fromfile(write_config(folder, **changes)))


@pytest.mark.usefixtures("clock")
def test_each_part_has_the_time_of_its_component(tmp_path: Path) -> None:
    found = profile_iterations(config(tmp_path), iterations=10)
    assert found.parts == dict(zip(PARTS, (1.0, 2.0, 4.0, 8.0, 16.0, 32.0), strict=True))
    assert (found.seconds, found.iterations, found.device) == (63.0, 10, "cpu")
    assert next(iter(found.hooks.items())) == ("WorkingHook", 32.0)
    assert not (tmp_path / "work").exists()
    text = str(found)
    assert "10 iterations on cpu, 63 s each" in text
    assert "hooks            32 s   50.8 %" in text


@pytest.mark.usefixtures("clock")
def test_hooks_of_epochs_count_as_hooks_and_not_as_data(tmp_path: Path) -> None:
    short = loader()
    short["dataset"]["length"] = 20  # 5 iterations per epoch
    changes = {"train_dataloader": short, "custom_hooks": [{"type": "WorkingEpochHook"}]}
    found = profile_iterations(config(tmp_path, **changes), iterations=10)
    # The measured iterations 4 to 13 contain the ends of two epochs; the warm-up contains the begin of the first one.
    assert (found.parts["data"], found.parts["hooks"]) == (1.0, 60.0)
    assert next(iter(found.hooks.items())) == ("WorkingEpochHook", 60.0)
    assert not [each for each in found.advice if "waiting for data" in each]


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        (
            {"train_dataloader": loader(50.0)},
            ["76 % of the time is spent waiting for data. Set `train_dataloader.num_workers=2`"],
        ),
        (
            {},
            [
                "25 % of the time is spent in the optimizer. Set `optim_wrapper.optimizer.fused=True`.",
                "51 % of the time is spent in hooks, above all in WorkingHook. Increase its interval",
            ],
        ),
        (
            {"custom_hooks": [], "optim_wrapper": {"optimizer": {"type": "SGD", "lr": 0.1}}},
            [
                "13 % of the time is spent in the data preprocessor. Move its computations to the dataset",
                "80 % of the time is spent in the model. `optim_wrapper.type='AmpOptimWrapper'`",
            ],
        ),
    ],
)
def test_advice_follows_from_the_shares(tmp_path: Path, changes: dict[str, Any], advice: list[str]) -> None:
    found = profile_iterations(config(tmp_path, **changes), iterations=4)
    for expected in advice:
        assert [each for each in found.advice if each.startswith(expected)], found.advice


def test_advice_leaves_out_what_is_set(tmp_path: Path) -> None:
    optimizer = {"type": "SGD", "lr": 0.1}
    runner = Runner.from_cfg(config(tmp_path, optim_wrapper={"type": "AmpOptimWrapper", "optimizer": optimizer}))
    runner.build_training()
    parts = {**dict.fromkeys(PARTS, 0.0), "forward": 1.0}
    assert list(_advice(runner, parts, {})) == [
        "100 % of the time is spent in the model. `compile=True` can make it faster."
    ]
    runner.cfg["compile"] = True
    assert list(_advice(runner, parts, {})) == []


def test_validation_does_not_run_and_a_short_run_raises(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the run ends before the first measured iteration"):
        profile_iterations(config(tmp_path, train_cfg={"by_epoch": False, "max_iters": 3}))


def test_command_prints_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", str(write_config(tmp_path)), "--iters", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["parts"]) == list(PARTS)
    assert found["seconds"] == pytest.approx(sum(found["parts"].values()))
