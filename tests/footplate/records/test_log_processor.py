import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from footplate.records import LogProcessor, MessageHub
from footplate.weighted import Sum

VECTORS = Path(__file__).parents[2] / "data" / "vectors" / "log_processor.jsonl"  # what mmengine 0.10.7 wrote


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A run after its tenth iteration."""
    monkeypatch.setattr("footplate.records.log_processor.memory_in_use", lambda device: 321)
    hub = MessageHub("test")
    for value in range(10):
        hub.update_scalars({"train/lr": 0.01, "train/loss": float(value), "train/acc": float(value)})
        for mode in ("train", "val", "test"):
            hub.update_scalars({f"{mode}/time": 0.5, f"{mode}/data_time": 0.125})
    for mode in ("val", "test"):
        hub.update_scalar(f"{mode}/mIoU", 55.123456)
        hub.update_info(f"{mode}/table", {"a": [1, 2]})
    return SimpleNamespace(
        message_hub=hub,
        iter=9,
        epoch=1,
        completed=SimpleNamespace(iter=9, epoch=1),
        max_iters=1200,
        max_epochs=12,
        train_loop=SimpleNamespace(validations_left=0),
        val_loop=None,
        test_loop=None,
        device=torch.device("cpu"),
        train_dataloader=range(100),
        val_dataloader=range(20),
        test_dataloader=range(20),
    )


TRAIN = "lr: 1.0000e-02  eta: 0:09:55  time: 0.5000  data_time: 0.1250  memory: 321  loss: 4.5000  acc: 9.0000"


@pytest.mark.parametrize(
    ("by_epoch", "mode", "line"),
    [
        (True, "train", f"Epoch(train)  [2][ 10/100]  {TRAIN}"),
        (True, "val", "Epoch(val) [1][ 5/20]  eta: 0:00:07  time: 0.5000  data_time: 0.1250"),
        (True, "test", "Epoch(test) [ 5/20]  eta: 0:00:07  time: 0.5000  data_time: 0.1250"),
        (False, "train", f"Iter(train) [  10/1200]  {TRAIN}"),
        (False, "val", "Iter(val) [ 5/20]  eta: 0:00:07  time: 0.5000  data_time: 0.1250"),
    ],
)
def test_the_line_after_an_iteration(runner: Any, by_epoch: bool, mode: str, line: str) -> None:
    batch_idx = 9 if mode == "train" else 4
    assert LogProcessor(by_epoch=by_epoch).get_log_after_iter(runner, batch_idx, mode)[1] == line


@pytest.mark.parametrize(
    ("by_epoch", "mode", "head"),
    [
        (True, "val", "Epoch(val) [1][20/20]"),
        (False, "test", "Iter(test) [20/20]"),
    ],
)
@pytest.mark.parametrize("with_non_scalar", [True, False])
def test_the_line_after_an_evaluation(runner: Any, by_epoch: bool, mode: str, head: str, with_non_scalar: bool) -> None:
    processor = LogProcessor(by_epoch=by_epoch)
    tag, line = processor.get_log_after_epoch(runner, 20, mode, with_non_scalar)
    assert line == f"{head}    mIoU: 55.1235  table: {{'a': [1, 2]}}  data_time: 0.1250  time: 0.5000"
    table = {"table": {"a": [1, 2]}} if with_non_scalar else {}
    assert tag == {"mIoU": 55.123456, **table, "data_time": 0.125, "time": 0.5}


@pytest.mark.parametrize("hierarchical", [False, True])
def test_only_term_of_a_loss_is_recorded_but_not_shown(runner: Any, hierarchical: bool) -> None:
    processor, hub = LogProcessor(log_with_hierarchy=hierarchical), runner.message_hub
    for value in range(10):
        hub.update_scalar("train/loss_ce", float(value))
    tag, line = processor.get_log_after_iter(runner, 9, "train")
    assert line.count("4.5000") == 1
    assert list(tag.values()).count(4.5) == 2
    hub.update_scalar("train/loss_aux", 0.0)
    assert "loss_ce: 4.5000" in processor.get_log_after_iter(runner, 9, "train")[1]


@pytest.mark.parametrize(("mode", "name"), [("val", "val/loss"), ("test", "loss")])
def test_validation_loss_has_the_same_name_in_line_and_scalars(runner: Any, mode: str, name: str) -> None:
    runner.message_hub.update_scalar(f"{mode}/loss", 2.5)
    tag, line = LogProcessor().get_log_after_epoch(runner, 20, mode)
    assert {key: tag[key] for key in tag if "loss" in key} == {name: 2.5}
    assert f"  {name}: 2.5000  " in line
    assert "  data_time: 0.1250  time: 0.5000" in line
    hierarchical = LogProcessor(log_with_hierarchy=True).get_log_after_epoch(runner, 20, mode)[0]
    assert [key for key in hierarchical if "loss" in key] == [f"{mode}/loss"]


def test_lines_of_data_without_a_length_show_no_total(runner: Any) -> None:
    runner.val_dataloader = iter(())
    processor = LogProcessor(by_epoch=False)
    assert processor.get_log_after_iter(runner, 9, "val")[1].startswith("Iter(val) [10]  time: ")
    assert processor.get_log_after_epoch(runner, 10, "val")[1].startswith("Iter(val)     mIoU: ")


def test_eta_covers_the_whole_run(runner: Any) -> None:
    processor = LogProcessor(by_epoch=False)
    runner.message_hub = MessageHub("slow")
    runner.message_hub.update_scalar("train/time", 60.0)
    for done, left in ((1200, "0:00:00"), (1198, "0:02:00"), (1140, "1:00:00"), (1, "19:59:00")):
        runner.iter = done - 1
        assert f"  eta: {left}  " in processor.get_log_after_iter(runner, done - 1, "train")[1]
    runner.max_iters = 1 + 49 * 60 + 1
    assert "  eta: 2 days, 1:01:00  " in processor.get_log_after_iter(runner, 0, "train")[1]
    runner.message_hub.update_info("val_seconds", 1000.0)
    runner.train_loop.validations_left = 3
    assert "  eta: 2 days, 1:51:00  " in processor.get_log_after_iter(runner, 0, "train")[1]
    runner.max_iters = 10**23
    assert "  eta: 115740740 days, 17:46:40  " in processor.get_log_after_iter(runner, 0, "train")[1]


def recorded(count: int) -> MessageHub:
    """Returns the hub after `count` iterations, in epochs of ten."""
    hub = MessageHub("recorded")
    for at in range(count):
        if at % 10 == 0:
            for history in hub.log_scalars.values():
                history.start_row()
        values = {"lr": 0.01 * (at + 1), "loss": at * 7 % 11, "loss_cls": at * 5 % 13 / 4, "acc": at * 3 % 7}
        hub.update_scalars({f"train/{name}": value for name, value in values.items()})
        hub.update_scalars({"train/time": 0.5 + at / 8, "train/data_time": at / 16, "train/grad_norm": float(at)})
        hub.update_scalar("train/top1_acc", float(at % 4), count=4)
    return hub


def test_figures_are_those_of_the_reference() -> None:
    for row in map(json.loads, VECTORS.read_text().splitlines()):
        count, cfg = row["n"], row["processor"]
        place = {"iter": count - 1, "epoch": (count - 1) // 10, "max_iters": 1200, "max_epochs": 12}
        run: Any = SimpleNamespace(
            message_hub=recorded(count), device=torch.device("cpu"), train_dataloader=range(10), **place
        )
        tag, _ = LogProcessor(**cfg).get_log_after_iter(run, (count - 1) % 10, "train")
        del tag["memory"]
        assert dict(tag) == pytest.approx(row["tag"], abs=1e-9), cfg


def test_values_of_earlier_validation_are_not_shown(runner: Any) -> None:
    """Values that other code recorded under validation names in the meantime are excluded too."""
    hub = runner.message_hub
    runner.val_loop = SimpleNamespace(metrics={"accuracy": 0.5})
    for name in ("loss", "accuracy", "noisy/accuracy"):
        hub.update_scalar(f"val/{name}", 9.0)
    hub.update_info("val/clean/classwise", {"cat": 2.0})
    for history in hub.log_scalars.values():
        history.mark()
    hub.update_scalar("val/accuracy", 0.5)
    metrics, _ = LogProcessor().get_log_after_epoch(runner, 20, "val", with_non_scalar=True)
    assert metrics == {"accuracy": 0.5, "table": {"a": [1, 2]}, "clean/classwise": {"cat": 2.0}}


def test_line_after_an_iteration_covers_no_values_of_earlier_lines_that_some_iterations_lack(runner: Any) -> None:
    hub = runner.message_hub
    hub.update_scalars({"train/loss_rare": 7.0, "train/correct": Sum(1)})
    for scalar in hub.scalars_of("train").values():
        scalar.mark()
    for value in (10.0, 11.0):
        hub.update_scalars({"train/loss": value, "train/time": 0.5, "train/correct": Sum(4)})
        for head in (1.0, 2.0):
            hub.update_scalar("train/loss_of_heads", head)
    hub.update_scalars({"train/loss_rare": 3.0})
    tag, _ = LogProcessor(window_size=4).get_log_after_iter(runner, 9, "train")
    assert (tag["loss"], tag["loss_rare"], tag["correct"]) == ((8 + 9 + 10 + 11) / 4, 3.0, 8)
