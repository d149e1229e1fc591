import logging
import os
import random
import re
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from footplate import Hook, Runner, storage
from footplate.cli.main import main
from footplate.data.annotations import load_data_file
from footplate.errors import ArgumentError, CheckpointError, DataError, FootplateError, import_optional
from footplate.evaluation import Evaluator
from tests.support import PointAccuracy, Points, ToyModel, Witness, loader, settings, weights


def run(tmp_path: Path, name: str, **changes: Any) -> Runner:
    runner = Runner(**{**settings(tmp_path / name), **changes})
    runner.train()
    return runner


class Drawing(ToyModel):
    """Draws random numbers in predictions."""

    def forward(self, inputs: Any, labels: Any, mode: str = "tensor") -> Any:
        if mode == "predict":
            random.random(), np.random.rand(), torch.rand(())
        return super().forward(inputs, labels, mode)


class Look(Hook):
    """Records files, random numbers and the training mode before the first iteration."""

    def before_train(self, runner: Any) -> None:
        self.files = sorted(each.name for each in Path(runner.work_dir).iterdir())
        self.drawn = random.random(), float(np.random.rand()), float(torch.rand(()))
        self.training = runner.model.training


def test_preflight_changes_neither_results_nor_random_states(tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "val_evaluator": {"type": "Told", "values": {"score": [3.0, 2.0, 1.0]}},
        "val_dataloader": loader(8, shuffle=False, num_workers=1),
        "default_hooks": {"checkpoint": {"save_best": "score", "rule": "greater"}},
    }
    looks = [Look(), Look()]
    torch.manual_seed(0)
    models = Drawing(dropout=0.3), Drawing(dropout=0.3)
    models[1].load_state_dict(models[0].state_dict())
    with_it = run(tmp_path, "with", **changes, model=models[0], preflight=True, custom_hooks=[looks[0]])
    without = run(tmp_path, "without", **changes, model=models[1], custom_hooks=[looks[1]])
    assert weights(with_it) == weights(without)
    assert looks[0].drawn == looks[1].drawn
    assert looks[0].training
    assert looks[0].files == [".lock", with_it.timestamp]
    assert storage.list_dir("memory://footplate-preflight") == []
    assert with_it.message_hub.get_scalar("val/score").data[0].tolist() == [3.0, 2.0, 1.0]


def test_preflight_restores_plain_attributes_of_modules(tmp_path: Path) -> None:
    class Counting(ToyModel):
        def __init__(self) -> None:
            super().__init__()
            self.calls, self.is_warm, self.mode = 0, False, "new"
            self.memory: Any = None  # of the first batch

        def forward(self, inputs: Any, labels: Any, mode: str = "tensor") -> Any:
            self.calls, self.is_warm, self.mode = self.calls + 1, True, mode
            self.memory = inputs.mean() if self.memory is None else self.memory
            return super().forward(inputs * self.calls + self.memory, labels, mode)

    class First(Hook):
        def before_train(self, runner: Any) -> None:
            model = runner.model
            self.held = model.calls, model.is_warm, model.mode, model.memory

    first = First()
    models = Counting(), Counting()
    models[1].load_state_dict(models[0].state_dict())
    runs = [run(tmp_path, str(n), model=models[n], preflight=n == 0, custom_hooks=[first][n:]) for n in (0, 1)]
    assert first.held == (0, False, "new", None)
    assert weights(runs[0]) == weights(runs[1])


def test_preflight_skips_models_with_uninitialized_parameters(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = ToyModel()
    model.layers[0] = torch.nn.LazyLinear(8)
    runner = run(tmp_path, "lazy", model=model, preflight=True)
    assert runner.iter == runner.max_iters
    assert "Preflight: skipped, because the model has uninitialized parameters." in caplog.text


def test_hook_state_that_cannot_be_saved_is_found_before_the_first_step(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Own(Hook):
        def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
            checkpoint["own"] = {"handle": object()}

    witness = Witness()
    with pytest.raises(CheckpointError, match="an object of type 'builtins.object' cannot be saved") as caught:
        run(tmp_path, "own", preflight=True, custom_hooks=[Own(), witness])
    assert caught.value.key == "own.handle"
    assert witness.when("before_train_iter") == []
    assert any("--no-preflight" in each for each in caplog.messages)


def test_failing_validation_is_found_before_the_first_step(tmp_path: Path) -> None:
    class Blind(ToyModel):
        def forward(self, inputs: Any, labels: Any, mode: str = "tensor") -> Any:
            return super().forward(inputs, labels, mode) if mode == "loss" else 1 / 0

    with pytest.raises(ZeroDivisionError):
        run(tmp_path, "blind", preflight=True, model=Blind())


def test_metrics_of_the_preflight_print_and_log_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    class Chatty(PointAccuracy):
        def compute_metrics(self, results: list[float]) -> dict[str, float]:
            print("Average Precision = 0.000")
            logging.getLogger("mmengine").error("The results are empty.")
            return super().compute_metrics(results)

    run(tmp_path, "chatty", val_evaluator=Chatty(), preflight=True, train_cfg={"max_iters": 4, "val_interval": 4})
    assert capsys.readouterr().out.count("Average Precision") == 1  # of the validation
    assert caplog.text.count("The results are empty.") == 1


def test_full_disk_is_found_before_the_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "footplate.storage.free_space", lambda folder: None if str(folder).startswith("memory") else 100
    )
    with pytest.raises(CheckpointError, match=r"a checkpoint needs \d.* but only 100 .* is free in") as caught:
        run(tmp_path, "small", preflight=True)
    assert caught.value.key == "work_dir"


def test_read_only_folder_is_found_before_the_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = storage.commit_bytes

    def refuse(path: Any, data: bytes) -> None:
        if ".writable" in str(path):
            raise PermissionError(13, os.strerror(13), str(path))
        commit(path, data)

    monkeypatch.setattr("footplate.storage.file_operations.commit_bytes", refuse)
    with pytest.raises(FootplateError, match="cannot write to '.*': Permission denied"):
        run(tmp_path, "closed", preflight=True)


@pytest.mark.parametrize("optimizer", [{"type": "SGD", "momentum": 0.9}, {"type": "AdamW"}])
def test_announced_size_of_checkpoints_contains_the_optimizer_state(
    tmp_path: Path, optimizer: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    frozen = torch.nn.Linear(2, 100_000)
    frozen.index = torch.nn.Parameter(torch.zeros(3, dtype=torch.int8), requires_grad=False)
    model = torch.nn.Sequential(frozen.requires_grad_(False), torch.nn.Linear(100_000, 2))
    with caplog.at_level(logging.INFO, "footplate.engine"):
        Runner(
            model=model,
            loss=torch.nn.CrossEntropyLoss(),
            train_dataloader=torch.utils.data.DataLoader([(torch.ones(2), 1)] * 2),  # type: ignore[arg-type]
            max_epochs=1,
            work_dir=str(tmp_path),
            optim_wrapper={"optimizer": {**optimizer, "lr": 0.1}},
        ).train()
    (saved,) = tmp_path.glob("*.pth")  # frozen parameters have no state
    found = re.search(r"each checkpoint will take about ([\d.]+) MiB\.", caplog.text)
    assert found is not None
    assert float(found[1]) == pytest.approx(saved.stat().st_size / 2**20, rel=0.02)


@pytest.mark.parametrize(("option", "times"), [([], 1), (["--no-preflight"], 0)])
def test_command_runs_the_preflight(
    tmp_path: Path, option: list[str], times: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "tiny.py"
    cfg = settings(tmp_path / "work", log_level="INFO")
    path.write_text("\n".join(f"{key} = {value!r}" for key, value in cfg.items()))
    assert main(["train", str(path), *option]) == 0
    assert sum(each.startswith("Preflight: each checkpoint will take") for each in caplog.messages) == times


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        (
            {"default_hooks": {"checkpoint": {"save_best": "acuracy"}}},
            "default_hooks.checkpoint.save_best",
        ),
        (
            {"custom_hooks": [{"type": "EarlyStoppingHook", "monitor": "acuracy"}]},
            "custom_hooks[0].monitor",
        ),
    ],
)
def test_unknown_metric_of_save_best_is_found_before_the_first_step(
    tmp_path: Path, changes: dict[str, Any], key: str, caplog: pytest.LogCaptureFixture
) -> None:
    witness = Witness()
    changes["custom_hooks"] = [*changes.get("custom_hooks", ()), witness]
    with pytest.raises(
        FootplateError, match="selects the metric 'acuracy', which validation does not compute"
    ) as caught:
        run(tmp_path, "typo", preflight=True, **changes)
    assert (caught.value.key, caught.value.suggestion) == (key, "accuracy")
    assert caught.value.notes == ("metrics: accuracy",)
    assert "--no-preflight" not in caplog.text
    assert witness.when("before_train_iter") == []
    assert list(tmp_path.iterdir()) == []  # a failed start leaves no folder


@pytest.mark.parametrize(
    ("sought", "found"),
    [
        ("truth.json", "truth.json' does not exist"),
        ("names", "compute_metrics of 'Compared' must return a dict"),
        ("package", "boxes needs the package 'absent'"),
        ("import", "No module named 'absent'"),
        ("", ""),
    ],
)
def test_mistake_of_a_metric_is_found_before_the_first_step_but_one_batch_may_not_be_enough(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, sought: str, found: str
) -> None:
    class Compared(PointAccuracy):
        def compute_metrics(self, results: list[float]) -> Any:
            if sought == "names":
                return results
            if sought == "package":
                import_optional("absent", extra="detection", why="boxes")
            if sought == "import":
                import_module("absent")
            if sought:
                load_data_file(str(tmp_path / sought))
            if len(results) < 8:
                raise DataError("one batch is not enough")
            return super().compute_metrics(results)

    witness = Witness()
    with pytest.raises((FootplateError, ImportError), match=found) if found else nullcontext():
        run(tmp_path, "compared", preflight=True, val_evaluator=Evaluator([Compared()]), custom_hooks=[witness])
    assert (witness.when("before_train_iter") == []) is bool(found)
    assert ("one batch is not enough" in caplog.text) is not bool(found)


def test_labels_of_different_classes_stop_the_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Named(Points):
        classes_are_folders = False

        def __init__(self, *classes: str) -> None:
            super().__init__(8)
            self.metainfo = {"classes": classes}

    def train(*classes: str) -> None:
        settings = {"train_dataloader": loader(dataset=Named("cat", "dog")), "preflight": True}
        run(tmp_path, "-".join(classes), val_dataloader={"day": loader(dataset=Named(*classes))}, **settings)

    train("cat", "dog")
    message = "Label 0 is 'cat' in the training data, but 'dog' in the validation data 'day'"
    with pytest.raises(ArgumentError, match=message) as caught:
        train("dog", "cat")
    assert caught.value.key == "val_dataloader.day.dataset"
    assert message not in caplog.text.partition("The run failed")[0]
    train("dog", "cat", "bird")  # as an open-vocabulary model is validated
    assert f"{message}. Set the same classes" in caplog.text
    train("cat")
    assert "Label 1 is 'dog' in the training data, but not a class in the validation data 'day'. Set" in caplog.text
    Named.classes_are_folders = True
    with pytest.raises(ArgumentError, match="create an empty folder"):
        train("dog", "cat", "bird", "fox")
