from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from footplate import Hook, Runner
from footplate.engine.loops import evaluation_loops
from footplate.errors import ArgumentError
from footplate.evaluation import BaseMetric, build_evaluator
from footplate.evaluation.evaluation_sets import map_evaluators
from footplate.records import history_buffer
from footplate.registry import METRICS
from tests.support import PointAccuracy, json_lines, loader, settings, summation_tolerance

ACCURACY = {"type": "PointAccuracy"}


class Look(Hook):
    """Records the metrics of each validation, and the dataset of each batch."""

    def __init__(self) -> None:
        self.metrics: list[dict[str, float]] = []
        self.sets: list[str] = []

    def after_val_iter(self, runner: Any, batch_idx: int) -> None:  # type: ignore[override]
        self.sets.append(f"{runner.val_loop.current}{batch_idx}/{len(runner.val_dataloader)}")

    def after_val_epoch(self, runner: Any, metrics: Any = None) -> None:
        self.metrics.append(dict(metrics))


def run(tmp_path: Path, **changes: Any) -> tuple[Runner, Look]:
    look = Look()
    cfg = {"custom_hooks": [look], "default_hooks": {"checkpoint": {"interval": -1, "save_last": False}}, **changes}
    runner = Runner(**settings(tmp_path, **cfg))
    runner.train()
    return runner, look


def two(**changes: Any) -> dict[str, Any]:
    return {"val_dataloader": {"clean": loader(8, shuffle=False), "noisy": loader(12, shuffle=False)}, **changes}


def test_each_dataset_has_its_own_metrics(tmp_path: Path) -> None:
    scalars = {
        "clean": {"type": "Told", "values": {"score": [1.0] * 2}},
        "noisy": {"type": "Told", "values": {"score": [2.0, 3.0]}},
    }
    runner, look = run(tmp_path, **two(val_evaluator=scalars), train_cfg={"by_epoch": True, "max_epochs": 2})
    assert look.metrics == [{"clean/score": 1.0, "noisy/score": 2.0}, {"clean/score": 1.0, "noisy/score": 3.0}]
    lines = json_lines(f"{runner.log_dir}/vis_data/scalars.json")
    assert [(line["step"], line["noisy/score"]) for line in lines if "clean/score" in line] == [(1, 2.0), (2, 3.0)]


def test_validation_losses_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    runner, look = run(tmp_path, val_cfg={"loss": True}, val_dataloader=loader(10, shuffle=False), log_level="INFO")
    assert list(look.metrics[-1]) == ["loss", "accuracy"]
    model = runner.model.eval()
    total = 0.0
    batches = list(runner.val_dataloader)
    for batch in batches:
        scores = model(**batch).detach()
        total += float(nn.functional.cross_entropy(scores, batch["labels"], reduction="sum"))
    assert look.metrics[-1]["loss"] == pytest.approx(total / 10, rel=summation_tolerance(10))
    lines = json_lines(f"{runner.log_dir}/vis_data/scalars.json")
    written = [line["val/loss"] for line in lines if "accuracy" in line]
    assert written == pytest.approx([each["loss"] for each in look.metrics], rel=1e-6)  # not averaged over validations
    told = [line for line in caplog.messages if "(val)" in line]
    assert f"    val/loss: {written[-1]:.4f}  accuracy: " in told[-1]
    batches.append({name: value[:0] for name, value in batches[0].items()})  # an empty batch does not count
    again = Runner(**settings(tmp_path / "val", val_cfg={"loss": True}, val_dataloader=batches, log_level="INFO"))
    again.load_checkpoint(runner.save_checkpoint(runner.work_dir, "end.pth"))
    assert again.val()["loss"] == pytest.approx(look.metrics[-1]["loss"], rel=1e-6)
    assert "    val/loss: " in caplog.messages[-1]


@METRICS.register_module()
class SeesModes(PointAccuracy):
    """An accuracy that records whether it receives inference tensors. The dataset does not return any."""

    seen: ClassVar[list[bool]] = []

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        self.seen.append(data_samples[0][0].is_inference())
        assert not data_batch["inputs"].is_inference()
        super().process(data_batch, data_samples)


@pytest.mark.parametrize("inference_mode", [False, True])
def test_inference_mode_gives_the_same_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inference_mode: bool
) -> None:
    monkeypatch.setattr(history_buffer, "_CHUNK", 3)  # values are moved into the ring buffer during a validation
    monkeypatch.setattr(SeesModes, "seen", [])
    plain, look = run(tmp_path / "plain", train_dataloader=loader())
    val_cfg = {"inference_mode": inference_mode, "loss": True}
    evaluator = {"type": "SeesModes"}
    found, seen = run(tmp_path, train_dataloader=loader(), val_cfg=val_cfg, val_evaluator=evaluator)
    assert [each["accuracy"] for each in seen.metrics] == [each["accuracy"] for each in look.metrics]
    assert set(SeesModes.seen) == {inference_mode}
    assert all(map(torch.equal, found.model.state_dict().values(), plain.model.state_dict().values()))


def test_buffers_are_broadcast_before_each_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    runner = Runner(**settings(tmp_path))
    runner.model.register_buffer("seen", torch.zeros(1))
    sent = lambda tensors: told.append(([*tensors], runner.model.training))  # noqa: E731
    monkeypatch.setattr(evaluation_loops, "broadcast_tensors", sent)
    runner.val()
    runner.test()
    assert told == [([runner.model.seen], False)] * 2


class Seen(BaseMetric[int]):
    """Counts samples, like `Counter`."""

    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results += [1] * len(data_samples)

    def compute_metrics(self, results: list[int]) -> dict[str, int]:
        return {"seen": sum(results)}


class Counter:
    """Counts samples, with the methods of torchmetrics."""

    count = 0

    def update(self, predictions: torch.Tensor, target: torch.Tensor) -> None:
        self.count += len(target)

    def compute(self) -> int:
        return self.count

    def reset(self) -> None:
        self.count = 0


def test_prediction_does_not_read_the_test_set(tmp_path: Path) -> None:
    Runner(**settings(tmp_path)).train()
    missing = loader(dataset={"type": "BaseDataset", "ann_file": "missing.json"})
    runner = Runner(**settings(tmp_path / "predict", load_from=str(tmp_path / "epoch_3.pth"), test_dataloader=missing))
    assert len(runner.predict(loader(8, shuffle=False))) == 2


def test_prediction_covers_all_test_sets_in_order(tmp_path: Path) -> None:
    sets = {name: [torch.full((2, 1), value)] for name, value in (("clean", 1.0), ("noisy", 2.0))}
    runner = Runner(nn.Identity(), tmp_path, test_dataloader=sets, validation_step=lambda model, batch: model(batch))
    assert [output.tolist() for output in runner.predict()] == [[[1.0], [1.0]], [[2.0], [2.0]]]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("metric", [Seen(), {"seen": Counter()}, {"seen": lambda predicted, batch: float(batch[1][0])}])
def test_results_of_an_aborted_evaluation_are_discarded(
    tmp_path: Path, error: type[BaseException], metric: Any
) -> None:
    """A notebook calls `val` again after a failure or an interrupt."""
    batches: list[Any] = [(torch.ones(70, 2), torch.full((70,), number)) for number in range(3)]

    def validate(model: nn.Module, batch: Any) -> Any:
        if not batch:
            raise error
        return model(batch[0])

    runner = Runner(nn.Linear(2, 2), tmp_path, val_dataloader=batches, validation_step=validate, val_evaluator=metric)
    expected = runner.val()
    bad_batch, batches[1] = batches[1], ()
    with pytest.raises(error):
        runner.val()
    batches[1] = bad_batch
    assert runner.val() == expected


@pytest.mark.parametrize(
    ("evaluators", "key", "suggestion"),
    [
        ({"clean": ACCURACY}, "noisy", None),
        ({"clean": ACCURACY, "noisi": ACCURACY}, "noisi", "noisy"),
    ],
)
def test_evaluator_names_must_match_datasets(evaluators: Any, key: str, suggestion: str | None) -> None:
    with pytest.raises(ArgumentError) as caught:
        map_evaluators(evaluators, {"clean": [], "noisy": []}, build_evaluator)
    assert (caught.value.key, caught.value.suggestion) == (key, suggestion)


def test_validation_in_a_training_hook_does_not_change_the_run(tmp_path: Path) -> None:
    events: list[str] = []

    def validate(runner: Any, batch_idx: int) -> None:
        if batch_idx == 1:
            assert runner.val()
            events.append(f"training {runner.model.training}")

    runner = Runner(**settings(tmp_path))
    runner.on("after_train_iter", validate)
    for event in ("before_run", "after_run"):
        runner.on(event, lambda runner, event=event: events.append(event))
    runner.train()
    assert events == ["before_run", *["training True"] * 3, "after_run"]


def test_loss_of_some_batches_is_averaged_over_them() -> None:
    losses = evaluation_loops.MeanLosses()
    losses.add({"loss_a": torch.tensor(1.0), "loss_b": torch.tensor(4.0)}, 2)
    losses.add({"loss_a": torch.tensor(3.0)}, 6)
    assert losses.result() == {"loss_a": 2.5, "loss_b": 4.0}
