import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from footplate import Hook, Runner
from footplate.checkpoint import load_checkpoint
from footplate.errors import ArgumentError, CheckpointError
from footplate.hooks import EMAHook, ScheduleFreeHook
from tests.footplate.engine.own_loops import WholeRun  # noqa: F401 - registers it
from tests.footplate.hooks.runs import Seen, configured
from tests.support import PointModel, loader, settings

AVERAGE: dict[str, Any] = {"type": "EMAHook", "momentum": 0.1}


def run(tmp_path: Path, *, epochs: int = 3, **ema: Any) -> tuple[Runner, Seen]:
    seen = Seen()
    runner = configured(tmp_path / "work", {**AVERAGE, **ema}, seen, epochs=epochs)
    runner.on("after_val_epoch", lambda runner: seen.validated.append(round(runner.model.weight.item(), 4)))
    runner.train()
    return runner, seen


# mmengine's figures, with three iterations per epoch.
FOLLOWED: list[tuple[dict[str, Any], list[float], list[float]]] = [
    ({}, [1, 1.1, 1.29, 1.561, 1.9049, 2.3144, 2.783, 3.3047, 3.8742], [1.29, 2.3144, 3.8742]),
    ({"start_iters": 3}, [1, 2, 3, 3.1, 3.29, 3.561, 3.9049, 4.3144, 4.783], [3, 3.561, 4.783]),
    ({"begin_epoch": 2}, [1, 2, 3, 4, 4.1, 4.29, 4.561, 4.9049, 5.3144], [3, 4.29, 5.3144]),
]


@pytest.mark.parametrize(("ema", "weights", "validated"), FOLLOWED)
def test_average_is_updated_and_validated(
    tmp_path: Path, ema: dict[str, Any], weights: list[float], validated: list[float]
) -> None:
    runner, seen = run(tmp_path, **ema)
    assert seen.weights == weights
    assert seen.validated[1::3] == seen.validated[2::3] == validated  # in an iteration, and after the validation
    assert runner.model.weight.item() == 9.0


def test_resume_without_the_hook_raises(tmp_path: Path) -> None:
    run(tmp_path, epochs=2)
    with pytest.raises(CheckpointError, match="the checkpoint contains averaged weights, but the run has no EMA"):
        configured(tmp_path / "work", resume=True).train()


class Normed(PointModel):
    """Layers with dropout and batch statistics."""

    def __init__(self) -> None:
        super().__init__()
        layers = [torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.2), torch.nn.Linear(8, 2)]
        self.layers = torch.nn.Sequential(*layers)


KINDS: list[dict[str, Any]] = [
    {"begin_epoch": 2, "update_buffers": True},
    {"ema_type": "MomentumAnnealingEMA", "gamma": 3, "momentum": 0.01, "begin_iter": 6, "interval": 3},
]


@pytest.mark.parametrize("ema", KINDS)
def test_every_average_is_resumed_exactly(tmp_path: Path, ema: dict[str, Any]) -> None:
    def train(name: str, **changes: Any) -> dict[str, torch.Tensor]:
        cfg = settings(tmp_path / name, model=Normed(), custom_hooks=[{"type": "EMAHook", **ema}], **changes)
        cfg["default_hooks"] = {"logger": None, "checkpoint": {"by_epoch": False, "interval": 1}}
        Runner(**cfg).train()
        saved = load_checkpoint(str(tmp_path / name / "iter_12.pth"))
        kept = ("state_dict", "ema_state_dict")
        return {f"{part} {key}": value for part in kept for key, value in saved[part].items()}

    whole = train("whole")
    assert not torch.equal(whole["state_dict layers.0.weight"], whole["ema_state_dict module.layers.0.weight"])
    resumed = train("parts", resume=True, load_from=str(tmp_path / "whole/iter_7.pth"))
    assert [key for key, value in whole.items() if not torch.equal(value, resumed[key])] == []


class Versioned(torch.nn.Linear):
    """A layer that converts weights of its first version when it loads them."""

    _version = 2

    def _load_from_state_dict(self, state: Any, prefix: str, metadata: Any, *args: Any) -> None:
        if metadata.get("version", 1) < 2:
            state[f"{prefix}weight"] = state[f"{prefix}weight"].flip(0)
        super()._load_from_state_dict(state, prefix, metadata, *args)


@pytest.mark.parametrize("optimizer", [{"type": "SGD", "lr": 0.1}, {"type": "ScheduleFreeSGD", "lr": 0.1}])
def test_checkpoints_keep_the_versions_of_layers(tmp_path: Path, optimizer: dict[str, Any]) -> None:
    class Model(Normed):
        def __init__(self) -> None:
            super().__init__()
            self.layers[0] = Versioned(4, 8)

    hooks = [{"type": "EMAHook"}] if optimizer["type"] == "SGD" else []
    changes: dict[str, Any] = {
        "optim_wrapper": {"optimizer": optimizer},
        "param_scheduler": None,
        "custom_hooks": hooks,
    }
    runner = Runner(**settings(tmp_path, model=Model(), **changes))
    runner.train()
    saved = load_checkpoint(str(tmp_path / "epoch_3.pth"))
    resumed = Runner(**settings(tmp_path, model=Model(), **changes, resume=True))
    resumed.train()
    assert torch.equal(resumed.model.layers[0].weight, runner.model.layers[0].weight)
    assert saved["state_dict"]._metadata["layers.0"] == {"version": 2}


def test_test_uses_the_average_of_the_checkpoint(tmp_path: Path) -> None:
    run(tmp_path)
    runner = configured(tmp_path / "test", AVERAGE, load_from=str(tmp_path / "work/epoch_3.pth"))
    runner.test()
    assert runner.model.weight.item() == pytest.approx(3.8742, abs=1e-4)


def test_a_second_hook_that_swaps_weights_is_refused_when_it_is_registered(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="^ScheduleFreeHook and EMAHook both swap the model's weights") as caught:
        Runner(**settings(tmp_path, custom_hooks=[EMAHook(), ScheduleFreeHook()]))
    assert caught.value.key == "custom_hooks[1]"
    assert caught.value.notes == (
        "custom_hooks[0] was added first. Remove one of them. To remove a ScheduleFreeHook, change the optimizer.",
    )


def test_runner_that_changes_path_and_checkpoint_resumes_an_average(tmp_path: Path) -> None:
    class OwnRunner(Runner):
        def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
            super().resume(str(Path(filename)), *args, **kwargs)

        def load_checkpoint(self, filename: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
            moved = Path(shutil.copy(filename, tmp_path / "fetched.pth"))
            return dict(super().load_checkpoint(str(moved), *args, **kwargs))

    run(tmp_path, epochs=1)
    whole, _ = run(tmp_path / "whole", epochs=3)
    resumed = configured(tmp_path / "work", AVERAGE, resume=True, kind=OwnRunner)
    resumed.train()
    assert torch.equal(resumed.model.weight, whole.model.weight)
    states = [load_checkpoint(str(path / "work/epoch_3.pth")) for path in (tmp_path, tmp_path / "whole")]
    assert states[0]["state_dict"]["weight"].equal(states[1]["state_dict"]["weight"])  # the average


def test_runner_that_replaces_resume_loads_the_training_weights(tmp_path: Path) -> None:
    class OwnRunner(Runner):
        def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
            self.load_checkpoint(filename)

    trained, _ = run(tmp_path, epochs=1)
    resumed = configured(tmp_path / "work", AVERAGE, resume=True, kind=OwnRunner)
    resumed.load_or_resume()
    assert torch.equal(resumed.model.weight, trained.model.weight)


def test_runner_that_reads_the_checkpoint_itself_cannot_resume_an_average(tmp_path: Path) -> None:
    class OwnRunner(Runner):
        def load_checkpoint(self, filename: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
            return load_checkpoint(filename)

    run(tmp_path, epochs=1)
    resumed = configured(tmp_path / "work", AVERAGE, resume=True, kind=OwnRunner)
    with pytest.raises(CheckpointError, match=r"OwnRunner\.load_checkpoint has loaded the averaged weights"):
        resumed.train()


@pytest.mark.parametrize("resume", ["auto", False])
def test_an_average_starts_from_the_weights_that_are_loaded(tmp_path: Path, resume: Any) -> None:
    run(tmp_path, epochs=2)  # weights 6, average 2.3144
    changes = {"load_from": str(tmp_path / "work/epoch_2.pth"), "resume": resume}
    runner = configured(tmp_path / "new", AVERAGE, epochs=1, **changes)
    runner.train()
    assert runner.iter == 3
    assert runner.model.weight.item() == pytest.approx(2.3144 + 3, abs=1e-4)
    average = next(hook for hook in runner.hooks if isinstance(hook, EMAHook)).ema_model
    assert average is not None
    assert int(average.state_dict()["steps"]) == 3
    assert average.module.weight.item() == pytest.approx(2.3144 + 1 + 0.29, abs=1e-4)


def test_weights_that_are_loaded_after_training_are_saved_instead_of_the_average(tmp_path: Path) -> None:
    runner, _ = run(tmp_path)
    loaded = runner.load_checkpoint(str(tmp_path / "work/epoch_1.pth"))["state_dict"]
    runner.save_checkpoint(str(tmp_path), "loaded.pth")
    saved = load_checkpoint(str(tmp_path / "loaded.pth"))
    assert saved["state_dict"] == loaded
    assert int(saved["ema_state_dict"]["steps"]) == 0


SWA: dict[str, Any] = {"type": "EMAHook", "ema_type": "StochasticWeightAverage", "begin_epoch": 3}


@pytest.mark.parametrize("before", [AVERAGE, {**SWA, "begin_epoch": 2}, {**SWA, "begin_epoch": 0}])
def test_changed_average_contains_only_weights_from_its_begin(tmp_path: Path, before: dict[str, Any]) -> None:
    configured(tmp_path, before, epochs=2).train()
    configured(tmp_path, SWA, epochs=3, resume=True).train()
    saved = load_checkpoint(str(tmp_path / "epoch_3.pth"))
    assert saved["state_dict"]["weight"].item() == (7 + 8 + 9) / 3
    assert int(saved["ema_state_dict"]["steps"]) == 3


def test_average_of_iterations_survives_another_batch_size(tmp_path: Path) -> None:
    for iterations, size in ((5, 4), (6, 2)):  # the second epoch begins at iteration 4, and then would at iteration 7
        checkpoint = {"by_epoch": False, "interval": 1}
        configured(
            tmp_path,
            {**SWA, "begin_epoch": 2},
            train_dataloader=loader(12, batch_size=size),
            train_cfg={"by_epoch": False, "max_iters": iterations},
            default_hooks={"logger": None, "checkpoint": checkpoint},
            resume="auto",
        ).train()
    assert load_checkpoint(str(tmp_path / "iter_6.pth"))["state_dict"]["weight"].item() == (4 + 5 + 6) / 3


class FailsOnce(Hook):
    """Fails at the end of the first validation, before the weights are switched back."""

    priority = "VERY_HIGH"
    has_failed = False

    def after_val_iter(self, runner: Any) -> None:  # type: ignore[override]
        if not self.has_failed:
            self.has_failed = True
            raise RuntimeError("no metric")


@pytest.mark.parametrize("own_run", [False, True])
def test_training_continues_with_the_training_weights_after_a_failed_validation(tmp_path: Path, own_run: bool) -> None:
    changes: dict[str, Any] = {"train_cfg": {"type": "WholeRun", "max_epochs": 3}} if own_run else {}
    runner = configured(tmp_path, AVERAGE, FailsOnce(), **changes)
    with pytest.raises(RuntimeError, match="no metric"):
        runner.train()
    assert runner.model.weight.item() == runner.iter == 3
    runner.train()
    assert runner.model.weight.item() == runner.iter == 9


def test_a_validation_uses_weights_that_a_hook_has_loaded(tmp_path: Path) -> None:
    run(tmp_path, epochs=2)
    seen: list[float] = []

    class LoadsBeforeValidation(Hook):
        priority = "VERY_HIGH"

        def after_train_epoch(self, runner: Any) -> None:
            runner.load_checkpoint(str(tmp_path / "work/epoch_2.pth"))

        def after_val_iter(self, runner: Any) -> None:  # type: ignore[override]
            seen.append(runner.model.weight.item())

    configured(tmp_path / "new", AVERAGE, LoadsBeforeValidation(), epochs=1).train()
    assert seen[-1] == pytest.approx(2.3144, abs=1e-4)


class ValidatesItself(Hook):
    def after_train_iter(self, runner: Any) -> None:  # type: ignore[override]
        if runner.iter == 1:
            with pytest.raises(RuntimeError, match="no metric"):
                runner.val()
            assert runner.model.training


def test_hook_that_catches_a_failed_validation_has_the_training_weights(tmp_path: Path) -> None:
    runner = configured(tmp_path, AVERAGE, FailsOnce(), ValidatesItself())
    runner.train()
    assert runner.model.weight.item() == 9


@pytest.mark.parametrize(
    ("begin", "warnings"),
    [({"begin_epoch": 3}, 0), ({"begin_epoch": 4}, 1), ({"begin_iter": 9}, 0), ({"begin_iter": 10}, 1)],
)
@pytest.mark.parametrize("kind", ["ExponentialMovingAverage", "StochasticWeightAverage"])
def test_average_that_never_begins_causes_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str, begin: dict[str, int], warnings: int
) -> None:
    configured(tmp_path, {"type": "EMAHook", "ema_type": kind, **begin}, epochs=3).train()
    assert [text for text in caplog.messages if "never begins" in text] == [
        "EMAHook: averaging never begins, because training ends before it, so validation and checkpoints use the "
        "current weights. Set an earlier begin_epoch or begin_iter, or remove the hook."
    ] * warnings
    assert sum("initial weights" in text for text in caplog.messages) == (kind[0] == "E" and not warnings)
