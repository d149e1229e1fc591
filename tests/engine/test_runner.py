import functools
import gc
import json
import logging
import os
import traceback
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from footplate import RUNNERS, Config, Hook, Runner
from footplate.distributed import unwrap_model
from footplate.engine import EpochBasedTrainLoop, IterBasedTrainLoop
from footplate.engine.hook import Phase
from footplate.errors import ArgumentError, ConfigKeyError
from footplate.evaluation import build_evaluator
from footplate.hooks import LoggerHook
from footplate.optim import build_optim_wrapper, build_param_schedulers
from footplate.records import LogProcessor, MessageHub
from footplate.visualization import Visualizer
from tests.support import ToyModel, Witness, loader, settings


def weights(runner: Runner) -> list[float]:
    values: list[float] = torch.cat([each.detach().flatten() for each in runner.model.parameters()]).tolist()
    return values


@pytest.mark.parametrize("by_epoch", [True, False])
def test_config_gives_the_same_run_twice(tmp_path: Path, by_epoch: bool) -> None:
    def run(seed: int, name: str) -> list[float]:
        cfg = settings(tmp_path / name, by_epoch=by_epoch, randomness={"seed": seed})
        runner = Runner.from_cfg({**cfg, "model": {"type": "ToyModel", "dropout": 0.3}})
        assert runner.train() is runner.model
        return weights(runner)

    assert run(7, "a") == run(7, "b") != run(8, "c")


def test_objects_and_dicts_give_the_same_run(tmp_path: Path) -> None:
    from_dicts = Runner(**settings(tmp_path / "dicts"))
    from_dicts.train()
    torch.manual_seed(7)
    model = ToyModel()
    sgd = {"optimizer": {"type": "SGD", "lr": 0.1, "momentum": 0.9}}
    optim_wrapper = build_optim_wrapper(model, sgd)
    linear = {"type": "LinearLR", "start_factor": 0.5, "end": 6, "by_epoch": False}
    schedules = build_param_schedulers(linear, optim_wrapper, epoch_length=4, max_epochs=3, max_iters=12)
    evaluator: Any = build_evaluator({"type": "PointAccuracy"})
    witness, visualizer = Witness(), Visualizer(save_dir=str(tmp_path))
    built = Runner(
        **{
            **settings(tmp_path / "objects"),
            "model": model,
            "optim_wrapper": optim_wrapper,
            "param_scheduler": schedules,
            "val_evaluator": evaluator,
            "custom_hooks": [witness],
            "default_hooks": {"logger": LoggerHook(interval=2)},
            "log_processor": LogProcessor(window_size=3),
            "visualizer": visualizer,
        }
    )
    built.train()
    assert weights(built) == weights(from_dicts)
    assert (built.optim_wrapper, built.visualizer, built.model) == (optim_wrapper, visualizer, model)
    assert isinstance(built.val_loop, object)
    assert built.log_processor.window_size == 3
    assert len(witness.when("after_train_iter")) == 12


def test_loop_may_be_an_object(tmp_path: Path) -> None:
    runner = Runner(**settings(tmp_path, train_cfg={"by_epoch": True, "max_epochs": 9}))
    loop = EpochBasedTrainLoop(runner, loader(), max_epochs=2)
    other = Runner(**settings(tmp_path, train_cfg=loop))
    assert (other.train_loop, other.max_epochs, other.by_epoch) == (loop, 2, True)


def frames_above_backward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> list[str]:
    seen: list[list[str]] = []
    backward: Any = torch.Tensor.backward

    def look(self: Any, *args: Any, **kwargs: Any) -> None:
        stack = traceback.extract_stack()
        seen.append([frame.name for frame in stack if f"{os.sep}footplate{os.sep}" in frame.filename])
        backward(self, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "backward", look)
    Runner(**settings(tmp_path, **changes)).train()
    assert len(seen) == 12
    assert all(each == seen[0] for each in seen)
    return seen[0]


@pytest.mark.parametrize("by_epoch", [True, False])
@pytest.mark.parametrize("kind", ["OptimWrapper", "AmpOptimWrapper"])
def test_four_frames_above_backward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_epoch: bool, kind: str) -> None:
    wrapper = {"type": kind, "optimizer": {"type": "SGD", "lr": 0.1}, "accumulative_counts": 2}
    if kind == "AmpOptimWrapper":
        wrapper["dtype"] = "bfloat16"
    frames = frames_above_backward(tmp_path, monkeypatch, by_epoch=by_epoch, optim_wrapper=wrapper)
    assert frames == ["train", "run", "train_step", "update_params"]


def test_files_of_a_run(tmp_path: Path) -> None:
    path = tmp_path / "tiny.py"
    path.write_text(Config(settings(tmp_path / "work", log_level="INFO")).pretty_text)
    runner = Runner.from_cfg(Config.fromfile(str(path)))
    runner.train()
    runner.test()
    stamp = runner.timestamp
    assert sorted(str(each.relative_to(tmp_path / "work")) for each in (tmp_path / "work").rglob("*.*")) == sorted(
        [
            *["epoch_1.pth", "epoch_2.pth", "epoch_3.pth", "tiny.py", f"{stamp}/{stamp}.json", f"{stamp}/{stamp}.log"],
            *[f"{stamp}/vis_data/{name}" for name in (f"{stamp}.json", "config.json", "config.py", "scalars.json")],
            f"{stamp}/environment.json",
        ]
    )
    assert (tmp_path / "work/last_checkpoint").read_text() == str(tmp_path / "work/epoch_3.pth")
    assert Config.fromfile(runner.log_dir + "/vis_data/config.py").to_dict() == runner.cfg.to_dict()
    assert Config.fromfile(str(tmp_path / "work/tiny.py")).to_dict() == runner.cfg.to_dict()
    metrics = json.loads(Path(runner.log_dir, f"{stamp}.json").read_text())
    assert set(metrics) == {"accuracy", "data_time", "time"}
    log = Path(runner.log_dir, f"{stamp}.log").read_text()
    for line in ("hooks act in this order:", "seed 7, device cpu", "Epoch(val) [3][2/2]    accuracy: ", "torch: 2."):
        assert line in log


def test_hook_order_is_logged_before_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[int] = []

    class First(Hook):
        def before_run(self, runner: Any) -> None:
            seen.append(sum("hooks act in this order:" in each for each in caplog.messages))

    Runner(**settings(tmp_path, custom_hooks=[First()], log_level="INFO")).train()
    assert seen == [1]


def test_nothing_is_written_before_everything_is_built(tmp_path: Path) -> None:
    runner = Runner(**settings(tmp_path / "work"))
    _ = runner.train_loop, runner.optim_wrapper, runner.param_schedulers, runner.val_loop, runner.test_loop
    assert not (tmp_path / "work").exists()


def test_test_run_needs_no_training_sections(tmp_path: Path) -> None:
    cfg = settings(tmp_path / "work")
    training = ("train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler")
    runner = Runner(**{key: value for key, value in cfg.items() if key not in training})
    assert runner.test() == runner.val()
    assert (runner.iter, runner.epoch) == (0, 0)
    with pytest.raises(ArgumentError, match="training needs 'train_cfg'"):
        runner.train()


@pytest.mark.parametrize("mode", ["val", "test"])
def test_evaluation_without_sections_raises(tmp_path: Path, mode: str) -> None:
    missing: dict[str, Any] = {f"{mode}_{part}": None for part in ("dataloader", "cfg", "evaluator")}
    runner = Runner(**settings(tmp_path, **missing))
    with pytest.raises(ArgumentError, match=f"the run has no {mode} loop: it needs {mode}_dataloader"):
        getattr(runner, mode)()


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        ("train_dataloader", "training needs 'train_dataloader'"),
        ("optim_wrapper", "training needs 'optim_wrapper'"),
        ("val_cfg", "validation needs 'val_cfg'"),
        ("val_evaluator", "validation needs 'val_evaluator'"),
        ("test_dataloader", "a test needs 'test_dataloader'"),
    ],
)
def test_incomplete_phase_raises(tmp_path: Path, missing: str, says: str) -> None:
    with pytest.raises(ArgumentError, match=says) as caught:
        Runner(**{**settings(tmp_path), missing: None})
    assert caught.value.key == missing


def test_from_cfg_checks_keys(tmp_path: Path) -> None:
    cfg = settings(tmp_path)
    cfg["train_dataloder"] = cfg.pop("train_dataloader")
    with pytest.raises(ConfigKeyError) as caught:
        Runner.from_cfg(cfg)
    assert (caught.value.key, caught.value.suggestion) == ("train_dataloder", "train_dataloader")
    with pytest.raises(ArgumentError, match="the config has no 'work_dir'"):
        Runner.from_cfg({key: value for key, value in settings(tmp_path).items() if key != "work_dir"})


def test_custom_keys_are_recorded(tmp_path: Path) -> None:
    runner = Runner.from_cfg(settings(tmp_path, gallery_dataloader={"batch_size": 3}, models=[1]))
    assert runner.cfg.gallery_dataloader.batch_size == 3


def test_runner_type_selects_the_class(tmp_path: Path) -> None:
    class OwnRunner(Runner):
        pass

    RUNNERS.register_module(module=OwnRunner, force=True)
    assert type(Runner.from_cfg(settings(tmp_path, runner_type="OwnRunner"))) is OwnRunner


def test_experiment_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runner = Runner(**settings("some/work", experiment_name="first"))
    assert (runner.work_dir, runner.experiment_name) == (str(tmp_path / "some/work"), "first")
    assert runner.log_dir == os.path.join(runner.work_dir, runner.timestamp)
    assert MessageHub.get_current_instance() is runner.message_hub
    assert runner.visualizer.instance_name == runner.message_hub.instance_name == "first"
    assert Runner(**settings("a")).experiment_name.startswith("run_2")
    assert (runner.rank, runner.world_size, runner.distributed, runner.phase) == (0, 1, False, Phase.START)


def test_a_process_group_of_one_process_is_distributed(tmp_path: Path) -> None:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined]
    try:
        runner = Runner(**settings(tmp_path))
        assert runner.distributed
        assert runner.model.module is unwrap_model(runner.model)
    finally:
        dist.destroy_process_group()


def test_register_hook(tmp_path: Path) -> None:
    runner = Runner(**settings(tmp_path))
    runner.register_hook({"type": "Witness", "priority": "LOW"})
    runner.register_hook(Witness(), priority="ABOVE_NORMAL")
    names = [type(hook).__name__ for hook in runner.hooks]
    assert names[1] == "Witness"
    assert [hook.priority for hook in runner.hooks if isinstance(hook, Witness)] == ["ABOVE_NORMAL", "LOW"]
    runner.train()
    assert all(len(hook.when("after_train_iter")) == 12 for hook in runner.hooks if isinstance(hook, Witness))


@pytest.mark.parametrize("strict", [True, False])
def test_load_checkpoint_loads_weights(tmp_path: Path, strict: bool, caplog: pytest.LogCaptureFixture) -> None:
    trained = Runner(**settings(tmp_path / "a"))
    trained.train()
    path = str(tmp_path / "a/epoch_3.pth")
    other = Runner(**settings(tmp_path / "b", randomness={"seed": 9}, custom_hooks=[{"type": "Witness"}]))
    assert weights(other) != weights(trained)
    checkpoint = other.load_checkpoint(path, strict=strict)
    assert weights(other) == weights(trained)
    assert (checkpoint["meta"]["epoch"], other.epoch, other.iter) == (3, 0, 0)
    assert other.hooks[0].when("after_load_checkpoint") == [(0, 0)]


def test_training_starts_with_load_from(tmp_path: Path) -> None:
    trained = Runner(**settings(tmp_path / "a"))
    trained.train()
    frozen = {"optimizer": {"type": "SGD", "lr": 0.0}}
    other = Runner(**settings(tmp_path / "b", load_from=str(tmp_path / "a/epoch_3.pth"), optim_wrapper=frozen))
    other.train()
    assert weights(other) == weights(trained)
    assert other.iter == 12


def test_checkpoint_is_loaded_without_executing_code(tmp_path: Path) -> None:
    runner = Runner.from_cfg(settings(tmp_path))
    runner.train()
    read = torch.load((tmp_path / "last_checkpoint").read_text(), weights_only=True)
    assert {"meta", "state_dict", "optimizer", "param_schedulers", "message_hub"} <= set(read)
    assert (read["meta"]["epoch"], read["meta"]["iter"], read["meta"]["seed"]) == (3, 12, 7)
    assert read["meta"]["dataset_meta"] == {"classes": ("left", "right")}
    assert read["meta"]["cfg"] == runner.cfg.pretty_text
    for name, value in runner.model.state_dict().items():
        torch.testing.assert_close(read["state_dict"][name], value, rtol=0, atol=0)


def test_save_checkpoint_adds_meta(tmp_path: Path) -> None:
    class Add(Hook):
        def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
            checkpoint["own"] = [1, 2]

    runner = Runner(**settings(tmp_path, custom_hooks=[Add()]))
    path = runner.save_checkpoint(str(tmp_path), "now.pth", save_optimizer=False, meta={"note": "by hand"})
    read = torch.load(path, weights_only=True)
    assert (read["own"], read["meta"]["note"], "optimizer" in read) == ([1, 2], "by hand", False)


def test_weights_are_initialized_once_before_training(tmp_path: Path) -> None:
    class Counted(ToyModel):
        times = 0

        def init_weights(self) -> None:
            self.times += 1

    model: Any = Counted()
    runner = Runner(**settings(tmp_path, model=model))
    runner.test()
    assert model.times == 0
    runner.train()
    assert model.times == 1


def test_error_in_a_run_keeps_its_traceback(tmp_path: Path) -> None:
    class Fail(Hook):
        def before_train(self, runner: Any) -> None:
            raise ZeroDivisionError("own mistake")

    runner = Runner(**settings(tmp_path, custom_hooks=[Fail()]))
    with pytest.raises(ZeroDivisionError, match="own mistake"):
        runner.train()


def test_log_level(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Runner(**settings(tmp_path, log_level="ERROR")).train()
    assert capsys.readouterr().out == ""
    assert logging.getLogger("footplate").level == logging.ERROR


class Between(Hook):
    """Records the tensor reads between the second and the second to last iteration."""

    priority = "LOWEST"

    def __init__(self, read: list[str]) -> None:
        self.read, self.found = read, ["not looked at"]

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if runner.iter == 1:
            self.read.clear()
        if runner.iter == 38:
            self.found = list(self.read)


def test_iterations_copy_nothing_to_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    for name in ("__float__", "__bool__", "tolist", "numpy", "cpu"):  # not `item`, which is allowed for CPU tensors

        def counted(self: Any, *args: Any, _name: str, _method: Any, **kwargs: Any) -> Any:
            read.append(_name)
            return _method(self, *args, **kwargs)

        method = getattr(torch.Tensor, name)
        monkeypatch.setattr(torch.Tensor, name, functools.partialmethod(counted, _name=name, _method=method))
    batch = {"inputs": torch.zeros(4, 4), "labels": torch.zeros(4, dtype=torch.long)}
    between = Between(read)
    Runner(
        **settings(
            tmp_path,
            train_dataloader=[batch],
            train_cfg={"by_epoch": False, "max_iters": 40, "val_interval": 40},
            default_hooks={"checkpoint": {"by_epoch": False}, "logger": {"interval": 40}},
            custom_hooks=[between],
        )
    ).train()
    assert between.found == []
    assert read  # by the log line at the end


def test_validation_after_training_keeps_the_weights(tmp_path: Path) -> None:
    Runner(**settings(tmp_path / "first")).train()
    first = torch.load(tmp_path / "first/epoch_1.pth", weights_only=True)["state_dict"]
    runner = Runner(**settings(tmp_path / "second", load_from=str(tmp_path / "first/epoch_1.pth")))
    runner.train()
    trained = {name: value.clone() for name, value in runner.model.state_dict().items()}
    runner.val()
    runner.test()
    found = runner.model.state_dict()
    assert all(torch.equal(found[name], trained[name]) for name in trained)
    assert not torch.equal(found["layers.0.weight"], first["layers.0.weight"])


def test_log_file_is_closed_after_the_run(tmp_path: Path) -> None:
    runner = Runner(**settings(tmp_path, log_level="INFO"))
    runner.train()
    log = Path(runner.log_dir) / f"{runner.timestamp}.log"
    before = log.read_text()
    runner.logger.info("after the run")
    assert "Saving checkpoint" in before
    assert log.read_text() == before


@pytest.mark.parametrize("by_epoch", [True, False])
def test_second_train_call_logs_that_the_run_is_complete(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, by_epoch: bool
) -> None:
    runner = Runner(**settings(tmp_path, by_epoch=by_epoch, log_level="INFO"))
    runner.train()
    before = weights(runner)
    caplog.clear()
    assert runner.train() is runner.model
    raised = "max_epochs" if by_epoch else "max_iters"
    assert caplog.messages == [
        f"The run is complete: 12 of 12 iterations. To train further, raise {raised}; to start over, use a new "
        "work_dir."
    ]
    assert weights(runner) == before


def test_metrics_write_to_the_created_log_folder(tmp_path: Path) -> None:
    """Another run takes the name of the folder between the construction of the runner and its start."""
    runner = Runner(**settings(tmp_path))
    loop: Any = runner.val_loop
    Path(runner.log_dir).mkdir(parents=True)
    before = runner.log_dir
    runner.val()
    assert runner.log_dir != before
    assert [each.context.folder for each in loop.evaluator.metrics] == [runner.log_dir]
    test_loop: Any = runner.test_loop
    assert [each.context.folder for each in test_loop.evaluator.metrics] == [runner.log_dir]


def test_assigned_loop_is_used(tmp_path: Path) -> None:
    runner = Runner(**settings(tmp_path, by_epoch=False))
    runner.train_loop = IterBasedTrainLoop(runner, runner.train_dataloader, max_iters=3)
    runner.train()
    assert (runner.iter, "train_loop" in runner.built) == (3, True)


def test_model_of_a_runner_that_did_not_train_is_freed_at_once(tmp_path: Path) -> None:
    runner = Runner.from_cfg(settings(tmp_path))
    model = weakref.ref(runner.model)
    gc.collect()
    gc.disable()
    try:
        del runner
        assert model() is None
    finally:
        gc.enable()
