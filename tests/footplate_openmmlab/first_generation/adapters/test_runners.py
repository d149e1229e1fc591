"""First-generation scripts that build their runner themselves."""

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Sampler

from footplate.checkpoint import load_checkpoint
from footplate.config import Config
from footplate.errors import ArgumentError, BuildError, CheckpointError
from footplate.registry import HOOKS, RUNNER_CONSTRUCTORS
from footplate.tools.run_files import config_of
from footplate_openmmlab.first_generation.adapters import Hook
from footplate_openmmlab.first_generation.adapters.evaluation import EvalHook
from footplate_openmmlab.first_generation.adapters.hook import ClosureHook
from footplate_openmmlab.first_generation.adapters.model import MMDataParallel
from footplate_openmmlab.first_generation.adapters.optimizer_hooks import OptimizerHook
from footplate_openmmlab.first_generation.adapters.runner_view import RUNNERS
from footplate_openmmlab.first_generation.adapters.runners import EpochBasedRunner, IterBasedRunner, build_runner
from footplate_openmmlab.first_generation.adapters.warm_up_ema import EMAHook
from footplate_openmmlab.mmcv_functions import build_from_cfg, build_optimizer
from footplate_vision.inference.trained_model import open_trained
from tests.footplate_openmmlab.first_generation.adapters.support import OldModelWithSteps, OldPoints
from tests.support import summation_tolerance

SGD = {"type": "SGD", "lr": 0.1, "momentum": 0.9}
BY_EPOCH, BY_ITER = {"type": "EpochBasedRunner", "max_epochs": 3}, {"type": "IterBasedRunner", "max_iters": 10}
# Sums of the four parameters after three epochs of mmcv 1.7.2 with the settings below.
REFERENCE_SUMS = [-0.4611901743337512, -0.810760036110878, 0.18467380665242672, -0.208229370880872]


class MarkedModel(OldModelWithSteps):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mark", torch.zeros(1))


class RunnerRecorder(Hook):
    """Records learning rates and counters of the runner."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.counters: list[tuple[Any, ...]] = []
        self.runner: Any = None

    def after_train_iter(self, runner: Any) -> None:  # type: ignore[override]
        self.rates += runner.current_lr()
        self.counters.append((runner.epoch, runner.iter, runner.inner_iter, runner.max_epochs, runner.max_iters))
        self.runner = runner


def loader(size: int = 16) -> DataLoader[Any]:
    return DataLoader(OldPoints(size), batch_size=4)


def script(work_dir: Path, cfg: dict[str, Any], model: Any = None, **pieces: Any) -> tuple[Any, RunnerRecorder]:
    """Returns a runner that is ready to run, and its recorder hook."""
    torch.manual_seed(0)
    model = MMDataParallel(OldModelWithSteps() if model is None else model)
    given = {"model": model, "work_dir": str(work_dir), "logger": None, "meta": {"seed": 7, "exp_name": "mine"}}
    runner = build_runner(cfg, default_args={**given, "optimizer": build_optimizer(model, SGD)})
    settings = {"lr_config": {"policy": "step", "step": [2]}, "optimizer_config": {"grad_clip": None}, **pieces}
    runner.register_training_hooks(**settings)
    recorder = RunnerRecorder()
    runner.register_hook(recorder)
    return runner, recorder


def sums(model: Any) -> list[float]:
    return [float(each.detach().double().sum()) for each in model.parameters()]


def test_a_workflow_with_two_training_phases_is_an_error(tmp_path: Path) -> None:
    runner, _ = script(tmp_path, BY_EPOCH)
    with pytest.raises(ArgumentError, match="a workflow can train in only one phase"):
        runner.run([loader(), loader()], [("train", 1), ("train", 2)])


def test_script_reproduces_the_weights_of_mmcv(tmp_path: Path) -> None:
    clip = {"grad_clip": {"max_norm": 0.5}}
    runner, recorder = script(tmp_path, BY_EPOCH, optimizer_config=clip, checkpoint_config={"interval": 1})
    assert (runner.epoch, runner.iter, runner.max_epochs, runner.max_iters) == (0, 0, 3, None)
    assert (runner.model_name, runner.rank, runner.world_size) == ("OldModelWithSteps", 0, 1)
    runner.run([loader()], [("train", 1)])
    # 12 iterations, and the sum of up to 32 weights
    assert sums(runner.model) == pytest.approx(REFERENCE_SUMS, rel=summation_tolerance(12 * 32))
    assert recorder.rates == pytest.approx([0.1] * 8 + [0.01] * 4)
    assert recorder.counters == [(place // 4, place, place % 4, 3, 12) for place in range(12)]
    names = ["epoch_1.pth", "epoch_2.pth", "epoch_3.pth", "latest.pth"]
    assert sorted(path.name for path in tmp_path.glob("*.pth")) == names
    assert (runner.epoch, runner.iter, runner.max_iters, runner.experiment_name) == (3, 12, 12, "mine")


@pytest.mark.parametrize("build", [EMAHook, lambda **settings: build_from_cfg({"type": "EMAHook", **settings}, HOOKS)])
def test_ema_hook_of_a_script_warms_up(tmp_path: Path, build: Any) -> None:
    runner, _ = script(tmp_path, BY_EPOCH, checkpoint_config={"interval": 3})
    runner.register_hook(build(momentum=0.9, warm_up=2))
    biases = [runner.model.module.head.bias.detach().clone()]
    runner.register_hook(
        ClosureHook("after_train_iter", lambda _: biases.append(runner.model.module.head.bias.clone()))
    )
    runner.run([loader()])
    average = biases[0]
    for steps, bias in enumerate(biases[1:]):
        average = average.lerp(bias, min(0.9, (1 + steps) / (2 + steps)))
    torch.testing.assert_close(load_checkpoint(tmp_path / "epoch_3.pth")["state_dict"]["head.bias"], average)
    with pytest.raises((BuildError, TypeError), match="EMAHook.* argument 'warmup'"):
        build(warmup=2)


def test_resume_is_bit_equal(tmp_path: Path) -> None:
    whole, _ = script(tmp_path / "whole", BY_EPOCH, checkpoint_config={"interval": 1})
    whole.run([loader()])
    again, recorder = script(tmp_path / "again", BY_EPOCH)
    again.resume(str(tmp_path / "whole/epoch_2.pth"))
    assert (again.epoch, again.iter) == (2, 8)
    again.run([loader()])
    assert recorder.counters[0][:2] == (2, 8)
    assert sums(again.model) == sums(whole.model)


def test_script_drives_the_runner_before_between_and_after_runs(tmp_path: Path) -> None:
    whole, _ = script(tmp_path / "whole", BY_EPOCH)
    whole.run([loader()])
    runner, recorder = script(tmp_path / "parts", BY_EPOCH, checkpoint_config={"interval": 1})
    kinds = [type(hook).__name__ for hook in runner.hooks]
    assert kinds == [
        "StepLrUpdaterHook",
        "OptimizerHook",
        "CheckpointHook",
        "LegacyCheckpointHook",
        "RunnerRecorder",
        "IterTimerHook",
    ]
    assert (runner.mode, runner.current_lr(), runner.current_momentum()) == (None, [0.1], [0.9])
    assert "RunnerRecorder (NORMAL)" in runner.get_hook_info()
    events: list[str] = []
    runner.register_hook(ClosureHook("before_epoch", lambda each: events.append(each.mode)))
    runner.call_hook("before_train_epoch")
    assert torch.load(runner.save_checkpoint(str(tmp_path), meta={"note": 1}))["meta"]["note"] == 1
    assert (tmp_path / "latest.pth").resolve() == tmp_path / "epoch_1.pth"
    runner.run([loader()], max_epochs=1)
    assert (runner.epoch, runner.iter, recorder.runner is runner) == (1, 4, True)
    runner.run([loader()], [("train", 1)], 3)
    assert (runner.epoch, runner.iter, events) == (3, 12, [None, "train", "train", "train"])
    assert runner.meta["hook_msgs"]["last_ckpt"] == str(tmp_path / "parts/epoch_3.pth")
    assert sums(runner.model) == sums(whole.model)
    again, _ = script(tmp_path / "again", BY_EPOCH)
    again.resume(str(tmp_path / "parts/epoch_2.pth"), resume_optimizer=False)
    assert (again.epoch, again.iter, again.meta["hook_msgs"]) == (2, 8, {"last_ckpt": ANY})
    again.run([loader()])
    assert again.iter == 12


def test_hooks_find_the_dataset_of_iterations_and_a_loss_may_be_an_integer(tmp_path: Path) -> None:
    model = nn.Linear(4, 2)
    model.train_step = lambda data, optimizer: {"loss": torch.tensor([3])}  # type: ignore[assignment]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    runner = IterBasedRunner(model, optimizer=optimizer, work_dir=str(tmp_path), max_iters=2)
    found = []
    runner.register_hook(
        ClosureHook("before_train_iter", lambda runner: found.append(runner.data_loader._dataloader.dataset))
    )
    data = loader()
    runner.run([data], [("train", 1)])
    assert found == [data.dataset] * 2


def test_batch_processor_replaces_the_steps_of_the_model(tmp_path: Path) -> None:
    modes = []

    def process(model: Any, batch: Any, train_mode: bool) -> Any:
        modes.append((train_mode, model.training))
        loss = nn.functional.cross_entropy(model(batch["img"]), batch["label"])
        return {"loss": loss, "log_vars": {"loss": loss.item()}, "num_samples": len(batch["img"])}

    model = nn.Linear(4, 2)
    given = {"model": model, "optimizer": torch.optim.SGD(model.parameters(), lr=0.1), "work_dir": str(tmp_path)}
    runner = build_runner({**BY_EPOCH, "max_epochs": 1}, default_args={**given, "batch_processor": process})
    runner.register_optimizer_hook({"grad_clip": None})
    before = sums(model)
    runner.run([loader(), loader(4)], [("train", 1), ("val", 1)])
    assert modes == [(True, True)] * 4 + [(False, False)]
    assert sums(model) != before
    with pytest.raises(RuntimeError, match="either batch_processor or a model with train_step"):
        EpochBasedRunner(OldModelWithSteps(), process)
    with pytest.raises(ArgumentError, match="Only one of max_epochs and max_iters can be set"):
        EpochBasedRunner(OldModelWithSteps(), max_epochs=1, max_iters=1)


class SeededSampler(Sampler[int]):
    """A sampler with its own seed, like those of MMDetection."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __iter__(self) -> Iterator[int]:
        return iter(torch.randperm(16, generator=torch.Generator().manual_seed(self.seed)).tolist())

    def __len__(self) -> int:
        return 16


class EndlessBatches(SeededSampler):
    """A batch sampler without epochs, like MMDetection's InfiniteGroupBatchSampler."""

    def __iter__(self) -> Iterator[Any]:
        generator = torch.Generator().manual_seed(self.seed)
        while True:
            yield torch.randperm(16, generator=generator)[:4].tolist()

    def set_epoch(self, epoch: int) -> None:
        raise NotImplementedError


def test_samplers_may_refuse_epochs(tmp_path: Path) -> None:
    def loader_of(seed: int) -> DataLoader[Any]:
        return DataLoader(OldPoints(16), batch_sampler=EndlessBatches(seed))

    whole, _ = script(tmp_path, BY_ITER, checkpoint_config={"interval": 6, "by_epoch": False})
    whole.run([loader_of(7)])
    again, _ = script(tmp_path / "again", BY_ITER)
    again.resume(str(tmp_path / "iter_6.pth"))
    again.run([loader_of(7)])
    assert (whole.iter, sums(again.model)) == (10, sums(whole.model))


def test_error_about_the_resumed_checkpoint_has_the_key_of_the_script(tmp_path: Path) -> None:
    script(tmp_path / "whole", BY_EPOCH, checkpoint_config={"interval": 1})[0].run([loader()])
    other, _ = script(tmp_path / "other", BY_EPOCH, model=MarkedModel())
    other.resume(str(tmp_path / "whole/epoch_1.pth"))
    with pytest.raises(CheckpointError, match="do not match the model") as caught:
        other.run([loader()])
    assert caught.value.key == "resume_from"


@pytest.mark.parametrize("own_seed", [False, True])
def test_interrupted_epoch_resumes_with_the_seed_of_the_checkpoint(
    own_seed: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def loader_of(seed: int) -> DataLoader[Any]:
        order: Any = {"sampler": SeededSampler(seed)} if own_seed else {"shuffle": True}
        return DataLoader(OldPoints(16), batch_size=4, **order)

    saves = {"interval": 2, "by_epoch": False}
    whole, _ = script(tmp_path / "whole", BY_EPOCH, checkpoint_config=saves)
    whole.run([loader_of(7)])
    again, _ = script(tmp_path / "again", BY_EPOCH)
    again.meta["seed"] = 8
    again.resume(str(tmp_path / "whole/iter_6.pth"))
    again.run([loader_of(8)])
    assert sums(again.model) == sums(whole.model)
    assert "seed 7 instead of 8" in caplog.text


@pytest.mark.parametrize("in_hook", [False, True])
def test_config_of_the_script_is_recorded(in_hook: bool, tmp_path: Path) -> None:
    cfg = {"model": {"type": "OldModelWithSteps"}, "optimizer": SGD, "runner": BY_EPOCH, "resume_settings": "take"}
    meta = {"config": Config(cfg).pretty_text}
    runner, _ = script(tmp_path, BY_EPOCH, checkpoint_config={"interval": 3, "meta": meta if in_hook else None})
    runner.meta |= {} if in_hook else meta
    runner.run([loader()])
    assert config_of(tmp_path)["optim_wrapper"]["optimizer"] == SGD  # type: ignore[index]
    assert open_trained(tmp_path / "epoch_3.pth").cfg["model"] == cfg["model"]
    assert runner.resume_plan.takes_settings


def test_hooks_are_registered_as_objects_and_configs(tmp_path: Path) -> None:
    runner, recorder = script(
        tmp_path,
        BY_EPOCH,
        optimizer_config=OptimizerHook(grad_clip={"max_norm": 0.5}),
        custom_hooks_config=[{"type": "EmptyCacheHook"}, RunnerRecorder()],
    )
    runner.register_timer_hook({"type": "IterTimerHook"})
    runner.register_hook_from_cfg({"type": "SyncBuffersHook", "priority": "LOW"})
    runner.logger = logging.getLogger("tests.script")
    runner.register_hook(EvalHook(loader(8), interval=2, metric="accuracy"), priority="LOW")
    runner.register_hook(ClosureHook("after_run", lambda view: view.meta["hook_msgs"].update(note=1)))
    runner.run([loader()], max_epochs=2)
    kinds = [type(each).__name__ for each in runner.hooks]
    assert {"OptimizerHook", "EmptyCacheHook", "SyncBuffersHook", "EvalHook"} <= set(kinds)
    assert kinds.count("IterTimerHook") == 1  # the engine's, in place of those of the script
    assert (kinds.count("RunnerRecorder"), runner.epoch, len(recorder.rates)) == (2, 2, 8)
    assert recorder.runner.meta["exp_name"] == "mine"
    assert runner.meta["hook_msgs"] == {"note": 1}
    evaluated = runner.val_dataloader.dataset.evaluations[-1]
    assert (evaluated["metric"], evaluated["logger"]) == ("accuracy", runner.logger)


class Undetected(OldPoints):
    """Lacks the metric in its first evaluation, as MMDetection's datasets do if the model does not detect anything."""

    def evaluate(self, results: list[Any], metric: Any = "accuracy", **options: Any) -> Any:  # type: ignore[override]
        values = super().evaluate(results, metric)
        return {"count": 0} | ({} if len(self.evaluations) == 1 else {"accuracy_top": values["accuracy"]})


@pytest.mark.parametrize(("save_best", "is_known"), [("accuracy_top", True), ("other", False)])
def test_metric_that_is_missing_without_detections_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, save_best: str, is_known: bool
) -> None:
    runner, _ = script(tmp_path, BY_EPOCH)
    loader = DataLoader(Undetected(8), batch_size=4)
    runner.register_hook(EvalHook(loader, metric=["accuracy"], save_best=save_best, rule="greater"), priority="LOW")
    run = partial(runner.run, [DataLoader(OldPoints(16), batch_size=4)])
    if is_known:
        run()
        text = "Validation returned only count, so no value of 'accuracy_top' is available."
        assert (caplog.messages.count(text), len(list(tmp_path.glob("best_accuracy_top_*")))) == (1, 1)
    else:
        with pytest.raises(ArgumentError, match="save_best selects the metric 'other'"):
            run()


def test_several_optimizers_are_stepped_by_the_model(tmp_path: Path) -> None:
    class StepsItself(OldModelWithSteps):
        def train_step(self, data: dict[str, Any], optimizer: Any) -> dict[str, Any]:
            found = super().train_step(data, optimizer)
            for each in optimizer.values():
                each.zero_grad()
            found["loss"].backward()
            for each in optimizer.values():
                each.step()
            return found

    torch.manual_seed(0)
    model = StepsItself()
    before = [each.detach().clone() for each in model.parameters()]
    parts = {name: torch.optim.SGD(getattr(model, name).parameters(), lr=0.1) for name in ("backbone", "head")}
    given = {"model": model, "optimizer": parts, "work_dir": str(tmp_path)}
    runner = build_runner({"type": "EpochBasedRunner", "max_epochs": 1}, default_args=given)
    runner.run([loader()])
    assert not any(map(torch.equal, model.parameters(), before))


def test_user_defined_runner_and_constructor(tmp_path: Path) -> None:
    @RUNNERS.register_module(force=True)
    class RunnerForTest(EpochBasedRunner):
        pass

    @RUNNER_CONSTRUCTORS.register_module(force=True)
    class ConstructorForTest:
        def __init__(self, runner_cfg: Any, default_args: Any) -> None:
            self.settings = {**runner_cfg, **default_args}

        def __call__(self) -> Any:
            return RUNNERS.build(self.settings)

    cfg = {"type": "RunnerForTest", "constructor": "ConstructorForTest", "max_epochs": 2}
    runner, recorder = script(tmp_path, cfg)
    runner.run([loader()])
    assert (type(runner), len(recorder.rates)) == (RunnerForTest, 8)


def test_scripts_may_replace_save_checkpoint(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    runner, _ = script(tmp_path, BY_EPOCH, checkpoint_config={"interval": 3})
    original = runner.save_checkpoint
    runner.save_checkpoint = lambda out_dir, **settings: original(out_dir, **settings)
    runner.run([loader()])
    warning = (
        "The script overrides EpochBasedRunner.save_checkpoint, but the checkpoint hook does not call this method."
    )
    assert caplog.messages.count(warning) == 1
    runner.save_checkpoint(str(tmp_path / "mine"), filename_tmpl="last_{}.pth")
    assert len(list((tmp_path / "mine").glob("last_*.pth"))) == 1
