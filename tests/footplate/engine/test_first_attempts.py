"""What users of other engines try first: it works, or the error says what to write."""

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from footplate import Hook, Runner
from footplate.checkpoint.digest import Digest, verify_digest
from footplate.config.recorded import read_recorded
from footplate.errors import ArgumentError, FootplateError
from tests.support import json_lines

_DATA = TensorDataset(torch.randn(8, 4), torch.randn(8, 1))


def _loader() -> DataLoader[Any]:
    return DataLoader(_DATA, batch_size=4)


def _runner(work_dir: Path, model: nn.Module | None = None, **settings: Any) -> Runner:
    model = model or nn.Linear(4, 1)
    arguments = {"optim_wrapper": torch.optim.SGD(model.parameters(), lr=0.1), "loss": nn.MSELoss(), "max_epochs": 2}
    return Runner(model, work_dir, _loader(), **{**arguments, **settings})


def _training_step(model: nn.Module, batch: Any) -> Tensor:
    return nn.functional.mse_loss(model(batch[0]), batch[1])


def test_weights_that_are_loaded_after_training_are_tested_rather_than_the_average(tmp_path: Path) -> None:
    runner = _runner(tmp_path, custom_hooks=[{"type": "EMAHook", "momentum": 0.1}], test_dataloader=_loader())
    runner.train()
    errors = torch.cat(runner.predict()) - _DATA.tensors[1]
    assert runner.test()["loss"] == pytest.approx(errors.square().mean().item())  # of the average
    loaded = {"weight": torch.zeros(1, 4), "bias": torch.ones(1)}
    torch.save({"state_dict": loaded}, tmp_path / "own.pth")
    runner.load_checkpoint(str(tmp_path / "own.pth"))
    assert torch.equal(torch.cat(runner.predict()), torch.ones(8, 1))
    assert runner.test()["loss"] == pytest.approx((1 - _DATA.tensors[1]).square().mean().item())


def test_wrapped_module_is_unwrapped(tmp_path: Path) -> None:
    module = nn.Linear(4, 1)
    made = _runner(tmp_path, nn.DataParallel(module))
    assert not any(isinstance(each, nn.DataParallel) for each in made.model.modules())
    assert made.unwrapped_model is module


_STEP: dict[str, Any] = {"loss": None, "training_step": _training_step}
_SGD = torch.optim.SGD([nn.Parameter(torch.zeros(1))])
_STEP_LR = torch.optim.lr_scheduler.StepLR(_SGD, 1)


@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        ({"callbacks": 1}, "Set custom_hooks=[...], or call runner.on(event, function)."),
        ({"default_hooks": {"checkpoint": {"save_top_k": 2}}}, "did you mean 'max_keep_best'?"),
        ({"param_scheduler": {"scheduler": _STEP_LR, "interval": "step"}}, "Set by_epoch=False for 'step'."),
        (
            {"custom_hooks": [{"type": "EarlyStoppingHook", "monitor": "loss", "mode": "min"}]},
            "did you mean 'rule'?",
        ),
        ({**_STEP, "training_step": lambda model, batch, batch_idx: None}, "The iteration number is step.iter"),
        ({"val_dataloader": [_loader(), _loader()]}, "must be passed as a dict, keyed by dataset name"),
        ({"custom_hooks": [{"type": "EMAHook", "decay": 0.9}]}, "Set momentum to 1 - decay"),
    ],
)
def test_arguments_of_other_engines_are_translated(tmp_path: Path, changes: dict[str, Any], advice: str) -> None:
    with pytest.raises(FootplateError) as error:
        _runner(tmp_path, **changes).train()
    assert advice in str(error.value)


def test_methods_that_resemble_events_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    similar = {
        "after_train_itr": "after_train_iter",
        "on_after_backward": "optimizer.register_step_pre_hook",
        "on_exception": "try/except around runner.train()",
        "on_fit_end": "after_train",
        "on_validation_batch_start": "before_val_iter",
    }
    hook = type("Own", (Hook,), dict.fromkeys([*similar, "before_the_flood"], id))()
    with caplog.at_level(logging.WARNING, "footplate"):
        runner = _runner(tmp_path, custom_hooks=[hook])
    assert caplog.messages == [f"Own.{name} is never called: did you mean {near}?" for name, near in similar.items()]
    with pytest.raises(ArgumentError, match="after_train_epoch"):
        runner.on("on_train_epoch_end", lambda runner: None)  # type: ignore[call-overload]


@pytest.mark.parametrize("priority", ["NORMAL", "HIGHEST"])  # after and before RuntimeInfoHook
def test_numbers_logged_after_an_epoch_are_in_the_history(tmp_path: Path, priority: str) -> None:
    runner = _runner(tmp_path, val_dataloader=_loader())
    norm = torch.tensor(1.5, requires_grad=True)
    runner.on("after_train_epoch", lambda runner: runner.log("train/norm", norm), priority=priority)
    runner.on("after_val_epoch", lambda runner: runner.log("val/error", runner.epoch), priority=priority)
    rows = [(row["epoch"], row["train/norm"], row["val/error"], "loss" in row) for row in runner.train()]
    assert rows == [(1, 1.5, 1, True), (2, 1.5, 2, True)]


@pytest.mark.parametrize("in_hook", [False, True])
def test_value_of_one_batch_cannot_be_logged(tmp_path: Path, in_hook: bool) -> None:
    def log(*_: Any) -> None:
        runner.log("norm", 1.0)

    steps: dict[str, Any] = {} if in_hook else {"validation_step": log, "val_dataloader": _loader()}
    runner = _runner(tmp_path, **steps)
    if in_hook:
        runner.on("after_train_iter", log)
    with pytest.raises(ArgumentError, match="runner.log cannot be called for a single batch"):
        runner.train()


def test_numbers_logged_in_a_step_are_means_in_the_log_like_the_losses(tmp_path: Path) -> None:
    def training_step(model: nn.Module, batch: Any, step: Any) -> Tensor:
        step.log("index", step.iter)
        step.log("head.lr", step.iter)
        return _training_step(model, batch)

    hooks = {"logger": {"interval": 4}}
    _runner(tmp_path, loss=None, training_step=training_step, max_epochs=None, max_iters=4, default_hooks=hooks).train()
    (line,) = json_lines(next(tmp_path.glob("*/vis_data/scalars.json")))
    assert line["index"] == 1.5  # of 0, 1, 2 and 3
    assert line["head.lr"] == 3


def test_longer_schedule_of_a_resumed_run_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    schedule = {"type": "OneCycleLR", "eta_max": 0.1, "by_epoch": False}
    _runner(tmp_path, param_scheduler=schedule).train()
    with caplog.at_level(logging.WARNING, "footplate"):
        _runner(tmp_path, param_scheduler=schedule, max_epochs=3, resume="auto").train()
    assert "OneCycleLR was saved with end=4 and now has end=6, so its values continue on a different" in caplog.text
    assert "set resume_settings='take' (--resume-settings take)." in caplog.text


def test_longer_run_with_steps_causes_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    schedule = {"type": "MultiStepLR", "milestones": [1], "end": 2}
    _runner(tmp_path, param_scheduler=schedule).train()
    _runner(tmp_path, param_scheduler={**schedule, "end": 3}, max_epochs=3, resume="auto").train()
    assert "different curve" not in caplog.text


def test_stream_without_a_length_is_validated(tmp_path: Path) -> None:
    stream = type("Stream", (IterableDataset,), {"__iter__": lambda self: iter(_DATA)})()
    assert "val/loss" in _runner(tmp_path, val_dataloader=DataLoader(stream, 4)).train()[-1]


def test_unused_optimizer_and_log_level_of_each_runner(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    runner = _runner(tmp_path / "1", training_step=lambda model, batch, optimizers: _training_step(model, batch))
    _runner(tmp_path / "2", log_level="ERROR")
    runner.train()
    assert "training_step did not step an optimizer in the first iteration" in caplog.text


def test_parameters_without_an_optimizer_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model[1].parameters(), lr=0.1)
    with caplog.at_level(logging.WARNING, "footplate"):
        _runner(tmp_path, model, optim_wrapper=optimizer).train()
    assert "No optimizer updates 0.weight, 0.bias. Set requires_grad=False" in caplog.text


@pytest.mark.parametrize(
    ("method", "advice"),
    [
        ("fit", "runner.train()"),
        ("evaluate", "runner.val()"),
        ("export", "docs/python.md shows how to export a model"),
        ("global_step", "runner.iter"),
    ],
)
def test_methods_of_other_engines_are_translated(tmp_path: Path, method: str, advice: str) -> None:
    with pytest.raises(AttributeError) as error:
        getattr(_runner(tmp_path), method)
    assert advice in str(error.value)


def _scored(*scores: float, **changes: Any) -> dict[str, Any]:
    """Returns the settings of three epochs whose checkpoints are ranked by these scores, the preflight's first."""
    values = iter(scores)
    return {
        "val_dataloader": [_DATA.tensors],
        "val_evaluator": {"score": lambda output, batch: next(values)},
        "default_hooks": {"checkpoint": {"save_best": "score", "rule": "less", "interval": 1, **changes}},
        "max_epochs": 3,
    }


def test_best_checkpoint_is_loaded_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = _scored(9.0, 1.0, 2.0, 3.0, save_best=["score", "loss"])
    runner = _runner(tmp_path, **settings)
    for name, missing in (
        ("best", "there is no best checkpoint"),
        ("newest", "there is no intact checkpoint of a run"),
    ):
        with pytest.raises(ArgumentError, match=missing):
            runner.load_checkpoint(name)
    runner.train()
    best = torch.load(tmp_path / "best_score_epoch_1.pth", weights_only=True)["state_dict"]
    assert torch.equal(runner.load_checkpoint("best")["state_dict"]["weight"], best["weight"])
    assert runner.load_checkpoint("newest")["meta"]["epoch"] == 3
    for name, epoch in (("best", 1), ("newest", 3)):
        resumed = _runner(tmp_path, **_scored(4.0, 5.0, 6.0, save_best=["score", "loss"]))
        resumed.resume(name)
        assert resumed.epoch == epoch
        resumed.train()
    other = _runner(tmp_path, **settings)  # as in a later process
    verified: list[str] = []

    def count(stream: Any) -> Digest:
        verified.append(Path(stream.name).name)
        return verify_digest(stream)

    monkeypatch.setattr("footplate.checkpoint.torch_file.verify_digest", count)
    assert torch.equal(other.load_checkpoint("best")["state_dict"]["weight"], best["weight"])
    assert verified == ["best_score_epoch_1.pth"]  # no other file is read in full


def test_exported_best_checkpoint_is_not_taken_for_a_checkpoint(tmp_path: Path) -> None:
    hooks = {"checkpoint": {"save_best": "loss"}}
    runner = _runner(tmp_path, val_dataloader=_loader(), default_hooks=hooks)
    runner.train()
    (best,) = tmp_path.glob("best_loss_*.pth")
    best.with_suffix(".pt2").write_bytes(b"an exported model")
    weight = _runner(tmp_path, default_hooks=hooks).load_checkpoint("best")["state_dict"]["weight"]
    assert torch.equal(weight, torch.load(best, weights_only=True)["state_dict"]["weight"])


@pytest.mark.parametrize("copied", [True, False])
def test_best_checkpoint_of_a_moved_run_is_in_its_new_folder(tmp_path: Path, copied: bool) -> None:
    settings = {**_scored(1.0, 2.0, 3.0, 0.5), "resume": "auto", "preflight": False}
    _runner(tmp_path / "old", **{**settings, "max_epochs": 2}).train()
    (shutil.copytree if copied else shutil.move)(tmp_path / "old", tmp_path / "new")
    if copied:
        shutil.copy(tmp_path / "old/epoch_2.pth", tmp_path / "old/best_score_epoch_1.pth")
    runner = _runner(tmp_path / "new", **settings)
    runner.train()
    assert runner.message_hub.get_info("best_ckpt") == str(tmp_path / "new/best_score_epoch_1.pth")
    weight = runner.load_checkpoint("best")["state_dict"]["weight"]
    best = torch.load(tmp_path / "new/best_score_epoch_1.pth", weights_only=True)
    assert torch.equal(weight, best["state_dict"]["weight"])
    _runner(tmp_path / "new", **{**settings, "max_epochs": 4}).train()
    assert [path.name for path in tmp_path.glob("new/best_*")] == ["best_score_epoch_4.pth"]


def test_best_checkpoint_of_a_failed_run_is_loaded_by_name(tmp_path: Path) -> None:
    """The checkpoint of an epoch, which is written before the validation of the epoch, names an earlier one."""
    settings = _scored(9.0, 3.0, 2.0, 1.0)
    runner = _runner(tmp_path, **settings)

    def fail(runner: Runner) -> None:
        if runner.epoch == 2:
            raise ZeroDivisionError

    runner.on("before_train_epoch", fail)
    with pytest.raises(ZeroDivisionError):
        runner.train()
    best = torch.load(tmp_path / "best_score_epoch_2.pth", weights_only=True)["state_dict"]
    later = _runner(tmp_path, **settings)
    assert torch.equal(later.load_checkpoint("best")["state_dict"]["weight"], best["weight"])


def test_own_val_cfg_keeps_the_validation_loss(tmp_path: Path) -> None:
    metrics = {"mean": lambda output, batch: output.mean()}
    settings: dict[str, Any] = {"val_dataloader": _loader(), "val_evaluator": metrics}
    history = _runner(tmp_path / "kept", val_cfg={"inference_mode": True}, **settings).train()
    assert {"val/loss", "val/mean"} <= history[-1].keys()
    history = _runner(tmp_path / "unset", val_cfg={"loss": False}, **settings).train()
    assert "val/loss" not in history[-1]


@pytest.mark.parametrize("average", [[], [{"type": "EMAHook", "momentum": 0.5}]])
def test_explicitly_loaded_weights_are_evaluated_rather_than_the_last_ones(tmp_path: Path, average: list[Any]) -> None:
    sets = {"val_dataloader": _loader(), "test_dataloader": _loader()}
    settings: dict[str, Any] = {**sets, "custom_hooks": average, "resume": "auto"}
    _runner(tmp_path, default_hooks={"checkpoint": {"interval": 1}}, **settings).train()
    model = nn.Linear(4, 1)
    later = _runner(tmp_path, model, **settings)
    later.load_checkpoint(str(tmp_path / "epoch_1.pth"))
    predicted = nn.functional.mse_loss(model(_DATA.tensors[0]), _DATA.tensors[1]).item()
    assert [later.test()["loss"], later.val()["loss"]] == [pytest.approx(predicted)] * 2


@pytest.mark.parametrize("name", ["max_epochs", "max_iters"])
def test_longer_run_needs_a_new_runner(tmp_path: Path, name: str) -> None:
    runner = _runner(tmp_path)
    runner.train()
    with pytest.raises(AttributeError, match=r"set a greater max_epochs or max_iters in Runner\(\.\.\.\), and resume"):
        setattr(runner, name, 3)
    longer = _runner(tmp_path, max_epochs=3, resume=True)
    longer.train()
    assert (runner.epoch, longer.epoch) == (2, 3)


def test_settings_may_be_numpy_numbers(tmp_path: Path) -> None:
    data = {"dataset": _DATA, "batch_size": np.int64(4), "collate_fn": {"type": "default_collate"}}
    settings: dict[str, Any] = {
        "train_dataloader": data,
        "optim_wrapper": {"optimizer": {"type": "SGD", "lr": np.float32(0.5)}, "accumulative_counts": np.int32(1)},
        "randomness": {"seed": np.int64(7)},
        "env_cfg": {"dist_cfg": {"timeout": np.int64(60)}},
        "max_iters": np.int64(3),
    }
    runner = Runner(nn.Linear(4, 1), tmp_path, loss=nn.MSELoss(), **settings)
    runner.train()
    assert (runner.iter, runner.seed, type(runner.max_iters), type(runner.seed)) == (3, 7, int, int)
    (recorded,) = tmp_path.glob("*/vis_data/config.py")
    cfg = read_recorded(recorded)
    assert (cfg.train_cfg.max_iters, cfg.train_dataloader.batch_size, cfg.optim_wrapper.optimizer.lr) == (3, 4, 0.5)


def test_hook_can_stop_a_run_as_in_lightning(tmp_path: Path) -> None:
    runner = _runner(tmp_path, max_epochs=3)
    runner.on("after_train_iter", lambda runner: setattr(runner, "should_stop", True))
    runner.train()
    assert runner.should_stop
    assert runner.epoch == 1
