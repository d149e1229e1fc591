from pathlib import Path
from typing import Any

import pytest
import torch

from footplate import Runner
from footplate.first_generation.adapters import DistEvalHook, EvalHook, Hook
from tests.first_generation.adapters.support import OldPoints, old_config


def loader() -> Any:
    return torch.utils.data.DataLoader(OldPoints(8), batch_size=4)


def trained(folder: Path, hook: EvalHook, **changes: Any) -> Runner:
    runner = Runner.from_cfg(old_config(folder, **changes))
    runner.register_hook(hook)
    runner.train()
    return runner


class OwnEvaluation(EvalHook):
    """Counts calls as the hooks of code bases do: with `_do_evaluate` and events that call those of the base class."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.calls: list[Any] = []

    def before_train_epoch(self, runner: Any) -> None:
        self.interval = 2 if runner.epoch == 0 else 1
        super().before_train_epoch(runner)

    def before_train_iter(self, runner: Any) -> None:  # type: ignore[override]
        super().before_train_iter(runner)

    def _do_evaluate(self, runner: Any) -> None:
        if not self._should_evaluate(runner):
            return
        self.calls.append((runner.epoch, torch.is_grad_enabled(), runner.model.module.training))
        results = self.test_fn(runner.model, self.dataloader)
        runner.log_buffer.output["eval_iter_num"] = len(self.dataloader)
        score = self.evaluate(runner, results)
        if self.save_best and score:
            self._save_ckpt(runner, score)


def test_a_subclass_evaluates_in_its_own_way(tmp_path: Path) -> None:
    hook = OwnEvaluation(loader(), interval=9, metric="accuracy", classwise=True, save_best="accuracy")
    runner = trained(tmp_path, hook)
    assert hook.calls == [(2, False, False), (3, False, False)]
    assert [asked["classwise"] for asked in hook.dataloader.dataset.evaluations] == [True, True]
    assert runner.val_loop is not None
    assert list(runner.val_loop.metrics) == ["accuracy"]
    assert len(runner.message_hub.history("val/accuracy")) == 2
    assert "train/accuracy" not in runner.message_hub.log_scalars
    assert len(list(tmp_path.glob("best_accuracy_epoch_*.pth"))) == 1


def test_an_overridden_evaluate_gets_the_results_of_the_model(tmp_path: Path) -> None:
    class Counts(EvalHook):
        def evaluate(self, runner: Any, results: Any) -> Any:
            runner.log_buffer.output["count"] = len(results)

    runner = trained(tmp_path, Counts(loader(), interval=3))
    assert runner.val_loop is not None
    assert runner.val_loop.metrics == {"count": 8}


@pytest.mark.parametrize("kind", [EvalHook, DistEvalHook])
def test_a_function_computes_the_results(tmp_path: Path, kind: type[EvalHook]) -> None:
    data = loader()
    hook = kind(data, None, 3, True, None, None, lambda model, loader: [1] * 8, ["acc"], ["loss"])
    runner = trained(tmp_path, hook)
    rights = sum(data.dataset[index]["label"] for index in range(8))
    assert runner.val_loop is not None
    assert runner.val_loop.metrics == {"accuracy": rights / 8}


def test_positional_arguments_of_the_hook_for_several_processes() -> None:
    hook = DistEvalHook(loader(), None, 1, True, None, None, None, None, None, False, "folder", True, metric="a")
    assert (hook.broadcast_bn_buffer, hook.tmpdir, hook.gpu_collect) == (False, "folder", True)
    assert hook.eval_kwargs == {"metric": "a"}


def test_without_values_there_is_no_best_checkpoint(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Empty(OldPoints):
        def evaluate(self, results: list[Any], metric: Any = None, logger: Any = None, **options: Any) -> Any:
            return {}

    hook = OwnEvaluation(torch.utils.data.DataLoader(Empty(8), batch_size=4), save_best="accuracy")
    trained(tmp_path, hook)
    assert not list(tmp_path.glob("best_*"))
    assert "Validation returned no metrics, so no best checkpoint is saved." in caplog.text


def test_it_is_a_first_generation_hook() -> None:
    assert issubclass(EvalHook, Hook)
