from pathlib import Path
from typing import Any

import pytest
import torch

from footplate import Config, Runner
from footplate.checkpoint import load_checkpoint
from footplate.distributed import is_model_wrapper
from footplate.errors import FootplateError
from tests.support import PointAccuracy, ToyModel, loader, settings


class OwnParts(Runner):
    """Builds components in its own way, as runners of code bases do."""

    def build_model(self, model: Any) -> Any:
        built: Any = super().build_model(model)
        built.built_by = "own"
        return built

    def build_optim_wrapper(self, optim_wrapper: Any) -> Any:
        return super().build_optim_wrapper({**optim_wrapper, "accumulative_counts": 2})

    def build_param_scheduler(self, scheduler: Any) -> Any:
        return super().build_param_scheduler({"type": "StepLR", "step_size": 1, "gamma": 0.5})

    def build_train_loop(self, loop: Any) -> Any:
        return super().build_train_loop({**loop, "max_epochs": 2})

    @staticmethod
    def build_dataloader(dataloader: Any, seed: int | None = None, diff_rank_seed: bool = False) -> Any:
        return Runner.build_dataloader({**dataloader, "batch_size": 8}, seed, diff_rank_seed)

    def build_evaluator(self, evaluator: Any) -> Any:
        return super().build_evaluator({**evaluator, "prefix": "own"})


def test_components_are_built_by_the_methods_of_a_subclass(tmp_path: Path) -> None:
    runner = OwnParts.from_cfg(Config(settings(tmp_path)))
    runner.train()
    assert runner.model.built_by == "own"
    assert (runner.max_epochs, runner.iter, runner.train_dataloader.batch_size) == (2, 4, 8)
    assert runner.val_dataloader.batch_size == 8
    assert runner.optim_wrapper._accumulative_counts == 2
    assert runner.param_schedulers[0].gamma == 0.5
    assert runner.message_hub.get_scalar("val/own/accuracy").current() >= 0


def test_constructors_that_write_into_their_config_do_not_change_the_recorded_one(tmp_path: Path) -> None:
    class Writing(ToyModel):  # as detectors of MMDetection and TestTimeAug of mmcv
        def __init__(self, head: dict[str, Any], views: list[Any]) -> None:
            super().__init__()
            head["train_cfg"] = {}
            views[0] = torch.nn.ReLU()

    model = {"type": Writing, "head": {"channels": 4}, "views": [{"type": "Flip"}]}
    runner = Runner.from_cfg(Config({**settings(tmp_path), "model": model}))
    assert runner.plan.recorded().model.head == {"channels": 4}
    assert runner.plan.recorded().model.views == [{"type": "Flip"}]


def test_parts_of_a_run_can_be_built_alone(tmp_path: Path) -> None:
    runner = Runner.from_cfg(Config(settings(tmp_path)))
    wrapper = runner.build_optim_wrapper({"optimizer": {"type": "SGD", "lr": 0.1}})
    runner.scale_lr(wrapper, {"enable": True, "base_batch_size": 2})
    assert wrapper.get_lr() == {"lr": [0.2]}
    assert [type(each) for each in runner.build_evaluator([{"type": "PointAccuracy"}]).metrics] == [PointAccuracy]
    assert len(runner.build_dataloader(loader(12), seed=1)) == 3
    model = runner.build_model({"type": "ToyModel"})
    assert runner.wrap_model(None, model) is model
    assert not is_model_wrapper(model)


@pytest.mark.parametrize("part", ["optimizer", "param_scheduler"])
def test_resume_without_a_part(tmp_path: Path, part: str, caplog: pytest.LogCaptureFixture) -> None:
    schedule = {"type": "StepLR", "step_size": 1, "gamma": 0.5, "by_epoch": True}
    Runner.from_cfg(Config(settings(tmp_path, param_scheduler=schedule))).train()
    (tmp_path / "again").mkdir()
    runner = Runner.from_cfg(Config(settings(tmp_path / "again", param_scheduler=schedule)))
    left_out: dict[str, Any] = {f"resume_{part}": False}
    runner.resume(str(tmp_path / "epoch_2.pth"), **left_out)
    assert (runner.iter, runner.epoch) == (8, 2)
    assert "The checkpoint has no" not in caplog.text
    saved = load_checkpoint(str(tmp_path / "epoch_2.pth"))["optimizer"]["state"]
    assert (len(runner.optim_wrapper.state_dict()["state"]) == len(saved)) == (part != "optimizer")
    assert runner.param_schedulers[0].last_step == 2


class Initialized(ToyModel):
    """A model whose `init_cfg` sets all weights to 3."""

    def __init__(self) -> None:
        super().__init__()
        self.init_cfg = {"type": "Constant", "val": 3.0, "bias": 3.0, "layer": "Linear"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Weights that are all 7, those of the first layer, and the checkpoint of a run that begins with them."""
    folder = tmp_path_factory.mktemp("sevens")
    weights = {name: torch.full_like(weight, 7) for name, weight in Initialized().state_dict().items()}
    found = {name: str(folder / f"{name}.pth") for name in ("weights", "part", "run")}
    torch.save(weights, found["weights"])
    torch.save({name: weight for name, weight in weights.items() if name.startswith("layers.0")}, found["part"])
    run = Runner(**settings(folder / "run", load_from=found["weights"]))
    run.on("before_train", lambda runner: runner.save_checkpoint(str(folder), "run.pth"))
    run.train()
    return found


@pytest.mark.parametrize(
    ("source", "calls"),
    [
        ("none", "val train"),
        *(("weights", f"{calls}train") for calls in ("", "val ", "test ", "predict ", "val load_checkpoint ")),
        *(("part", f"{calls}train") for calls in ("", "val ", "load_checkpoint ", "load_checkpoint val ")),
        *(("run", f"{calls}train") for calls in ("", "val ", "test ", "predict ", "resume ", "val resume ")),
        ("run", "load_checkpoint train"),  # the user's choice takes precedence over `resume=True`
    ],
)
def test_training_starts_from_the_loaded_weights_and_initializes_the_others(
    tmp_path: Path, files: dict[str, str], source: str, calls: str
) -> None:
    model, sevens = Initialized(), {name: torch.load(file) for name, file in files.items() if name != "run"}
    options: dict[str, Any] = {"load_from": files.get(source), "resume": source == "run"}
    runner = Runner(**settings(tmp_path / "work", **options, model=model))
    started: list[Any] = []

    def check(runner: Runner) -> None:
        expected = {} if source == "none" else sevens["part" if source == "part" else "weights"]
        assert [
            name
            for name, weight in runner.model.state_dict().items()
            if not torch.equal(weight, expected.get(name, torch.full_like(weight, 3)))
        ] == []
        started.append(runner)

    runner.on("before_train", check)
    for call in calls.split():
        getattr(runner, call)(*([files[source]] if call in ("load_checkpoint", "resume") else []))
    assert started


@pytest.mark.parametrize(
    ("method", "resume", "iterations"), [("load_checkpoint", False, 0), ("resume", False, 4), ("resume", True, 4)]
)
def test_training_starts_from_the_checkpoint_that_the_user_has_loaded(
    tmp_path: Path, method: str, resume: bool, iterations: int
) -> None:
    Runner(**settings(tmp_path / "first")).train()
    loaded, configured = str(tmp_path / "first" / "epoch_1.pth"), str(tmp_path / "first" / "epoch_2.pth")
    runner = Runner(**settings(tmp_path / "second", load_from=configured, resume=resume))
    getattr(runner, method)(loaded)
    weights = [weight.clone() for weight in runner.model.parameters()]

    def check(runner: Any) -> None:
        assert runner.iter == iterations
        assert all(map(torch.equal, weights, runner.model.parameters()))

    runner.on("before_train", check)
    runner.train()


@pytest.mark.parametrize(("resume", "restarts"), [(False, "1"), ("auto", "0")])
def test_restarted_script_resumes_although_it_loads_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resume: bool | str, restarts: str
) -> None:
    Runner(**settings(tmp_path)).train()
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", restarts)
    runner = Runner(**settings(tmp_path, resume=resume))
    runner.load_checkpoint(str(tmp_path / "epoch_1.pth"))
    runner.train()
    assert runner.iter == 12


def test_restarted_script_tests_the_weights_of_load_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Runner(**settings(tmp_path)).train()
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    runner = Runner(**settings(tmp_path, load_from=str(tmp_path / "epoch_1.pth")))
    runner.test()
    assert runner.epoch == 1
    runner.train()
    assert runner.iter == 12


def test_failed_resume_keeps_the_weights_that_were_loaded(tmp_path: Path) -> None:
    Runner(**settings(tmp_path)).train()
    runner = Runner(**settings(tmp_path / "again", load_from=str(tmp_path / "epoch_1.pth")))
    weights = runner.load_checkpoint(str(tmp_path / "epoch_2.pth"))["state_dict"]
    with pytest.raises(FootplateError):
        runner.resume(str(tmp_path / "missing.pth"))
    runner.test()
    assert all(torch.equal(value, weights[name]) for name, value in runner.model.state_dict().items())
    first = torch.load(tmp_path / "epoch_1.pth", weights_only=True)
    torch.save({**first, "param_schedulers": "broken"}, tmp_path / "broken.pth")
    with pytest.raises(FootplateError):  # after the weights have been replaced, so `load_from` applies again
        runner.resume(str(tmp_path / "broken.pth"))
    runner.test()
    assert all(torch.equal(value, first["state_dict"][name]) for name, value in runner.model.state_dict().items())
