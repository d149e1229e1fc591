import gc
import json
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from footplate import RUNNERS, Config, Runner
from footplate.errors import ArgumentError, BuildError
from footplate.evaluation import build_evaluator
from footplate.hooks import LoggerHook
from footplate.optim import build_optim_wrapper, build_param_schedulers
from footplate.records import LogProcessor
from footplate.visualization import Visualizer
from tests.support import ToyModel, Witness, settings, weights


@pytest.mark.parametrize("by_epoch", [True, False])
def test_config_gives_the_same_run_twice(tmp_path: Path, by_epoch: bool) -> None:
    def run(seed: int, name: str) -> list[float]:
        cfg = settings(tmp_path / name, by_epoch=by_epoch, randomness={"seed": seed})
        runner = Runner.from_cfg({**cfg, "model": {"type": "ToyModel", "dropout": 0.3}})
        assert runner.train() is runner.model
        return weights(runner)

    assert run(7, "a") == run(7, "b") != run(8, "c")


def test_objects_and_dicts_give_the_same_run(tmp_path: Path) -> None:
    from_dicts = Runner(**settings(tmp_path / "dicts"), cfg={"note": "a dict instead of a Config"})
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


def test_files_of_a_run(current_folder: Path) -> None:
    path = current_folder / "tiny.py"
    path.write_text(Config(settings(current_folder / "work", log_level="INFO")).pretty_text)
    runner = Runner.from_cfg(Config.fromfile(str(path)))
    runner.train()
    runner.test()
    stamp = runner.timestamp
    assert sorted(
        str(each.relative_to(current_folder / "work")) for each in (current_folder / "work").rglob("*.*")
    ) == sorted(
        [
            *["epoch_1.pth", "epoch_2.pth", "epoch_3.pth", "tiny.py", f"{stamp}/{stamp}.json", f"{stamp}/{stamp}.log"],
            *[f"{stamp}/vis_data/{name}" for name in (f"{stamp}.json", "config.py", "scalars.json")],
            f"{stamp}/environment.json",
            f"{stamp}/start.json",
        ]
    )
    assert (current_folder / "work/last_checkpoint").read_text() == str(current_folder / "work/epoch_3.pth")
    assert Config.fromfile(runner.log_dir + "/vis_data/config.py").to_dict() == runner.cfg.to_dict()
    assert Config.fromfile(str(current_folder / "work/tiny.py")).to_dict() == runner.cfg.to_dict()
    metrics = json.loads(Path(runner.log_dir, f"{stamp}.json").read_text())
    assert set(metrics) == {"accuracy", "data_time", "time"}
    log = Path(runner.log_dir, f"{stamp}.log").read_text()
    for line in ("hooks run in this order:", "seed 7, device cpu", "Epoch(val) [3][2/2]    accuracy: ", "torch: 2."):
        assert line in log


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


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        ("train_dataloader", "training needs 'train_dataloader'"),
        ("val_evaluator", r"validation needs 'val_evaluator'\n.*\n.*set val_evaluator=\[\]"),
    ],
)
def test_incomplete_phase_raises(tmp_path: Path, missing: str, says: str) -> None:
    with pytest.raises(ArgumentError, match=says) as caught:
        Runner(**{**settings(tmp_path), missing: None})
    assert caught.value.key == missing


def test_runner_type_selects_the_class(tmp_path: Path) -> None:
    class OwnRunner(Runner):
        pass

    RUNNERS.register_module(module=OwnRunner, force=True)
    assert type(Runner.from_cfg(settings(tmp_path, runner_type="OwnRunner"))) is OwnRunner
    assert type(RUNNERS.build(settings(tmp_path, runner_type="OwnRunner"))) is OwnRunner  # as in published scripts
    assert type(RUNNERS.build(Config(settings(tmp_path)))) is Runner
    with pytest.raises(BuildError, match="must be a dict with a 'type' key"):
        RUNNERS.build("Runner")


@pytest.mark.parametrize("make", [Runner.from_cfg, lambda cfg: Runner(**cfg)])
def test_model_with_a_wrong_number_of_classes_is_reported_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, make: Callable[[Any], Runner]
) -> None:
    make(settings(tmp_path, model={"type": "ToyModel", "num_classes": 3})).train()
    assert caplog.messages.count("model.num_classes is 3, but the number of classes in the training data is 2.") == 1


@pytest.mark.parametrize("strict", [True, False])
def test_load_checkpoint_loads_weights(tmp_path: Path, strict: bool, caplog: pytest.LogCaptureFixture) -> None:
    trained = Runner(**settings(tmp_path / "a"))
    trained.train()
    path = str(tmp_path / "a/epoch_3.pth")
    other = Runner(**settings(tmp_path / "b", randomness={"seed": 9}, custom_hooks=[{"type": "Witness"}]))
    assert weights(other) != weights(trained)
    checkpoint = other.load_checkpoint(path, strict=strict)
    assert weights(other) == weights(trained)
    # An evaluation belongs to the position of the checkpoint; training starts at 0.
    assert (checkpoint["meta"]["epoch"], other.epoch, other.iter) == (3, 3, 12)
    assert other.hooks[0].when("after_load_checkpoint") == [(0, 0)]


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
