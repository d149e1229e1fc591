import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from footplate import Runner
from footplate.config import Config
from footplate.data import ConcatDataset, dataset_of
from footplate.errors import ArgumentError
from footplate.registry import DATASETS, Registry
from footplate.registry.scopes import using_scope
from footplate.tools.check import check
from footplate_openmmlab.first_generation.adapters.evaluation import EvalHook, LegacyMetric, adapt_dataset
from footplate_openmmlab.first_generation.adapters.model import BatchResult
from footplate_vision.segmentation import IoUMetric
from tests.footplate_openmmlab.first_generation.adapters.support import (
    OldPoints,
    old_config,
    old_config_with_evaluation,
)
from tests.support import Witness


def test_test_mode_is_passed_to_nested_datasets() -> None:
    cfg = {"type": "ConcatDataset", "datasets": [{"type": "OldPoints"}, {"type": "OldPoints", "test_mode": False}]}
    dataset = adapt_dataset(cfg, test_mode=True)
    assert isinstance(dataset, ConcatDataset)
    inner: Any = dataset.datasets
    assert [each.test_mode for each in inner] == [True, False]
    assert cfg["datasets"] == [{"type": "OldPoints"}, {"type": "OldPoints", "test_mode": False}]


@DATASETS.register_module()
class PreEvaluated(OldPoints):
    def pre_eval(self, results: list[Any], indices: list[int]) -> list[Any]:
        return [(index, result == self[index]["label"]) for result, index in zip(results, indices, strict=True)]

    def evaluate(self, results: list[Any], **options: Any) -> Any:  # type: ignore[override]
        assert [index for index, _ in results] == list(range(len(self)))
        return {"accuracy": sum(right for _, right in results) / len(results)}


def test_evaluate_gets_all_settings(tmp_path: Path) -> None:
    runner = Runner.from_cfg(old_config_with_evaluation(tmp_path, metric=["accuracy"], classwise=True, topk=(1, 5)))
    runner.train()
    assert runner.val_loop is not None
    asked = runner.val_dataloader.dataset.evaluations
    expected = {"results": 8, "metric": ["accuracy"], "logger": logging.getLogger("footplate")}
    assert asked == [{**expected, "classwise": True, "topk": (1, 5)}] * 3
    assert runner.val_dataloader.dataset.test_mode is True
    assert runner.message_hub.get_scalar("val/accuracy").data[0].shape == (3,)


@DATASETS.register_module()
class Counted(OldPoints):
    """Evaluates like MMDetection's datasets: one result for each sample, and known metrics only."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.data_infos = list(range(self.size))

    def __len__(self) -> int:
        return len(self.data_infos)

    def evaluate(self, results: list[Any], metric: Any = "accuracy", **options: Any) -> Any:  # type: ignore[override]
        if metric != "accuracy":
            raise KeyError(f"metric {metric} is not supported")
        assert len(results) == len(self)
        return super().evaluate(results)


def test_mistakes_in_evaluation_are_found_before_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def build(**evaluation: Any) -> Runner:
        cfg = old_config_with_evaluation(tmp_path, **evaluation)
        cfg["data"]["val"]["type"] = "Counted"
        cfg["preflight"] = True
        return Runner.from_cfg(cfg)

    for evaluation, message in (
        ({"metric": "bboxes"}, "'Counted' cannot compute this metric: metric bboxes is not supported"),
        ({"metric": "accuracy", "save_best": "mAP"}, "mAP"),
    ):
        runner = build(**evaluation)
        with pytest.raises(ArgumentError, match=message):
            runner.train()
        assert runner.iter == 0
    runner = build(metric="accuracy", save_best="accuracy")
    runner.train()
    assert len(runner.val_dataloader.dataset) == 8
    assert "Preflight: computing the metrics" not in caplog.text


@DATASETS.register_module()
class WithTruth(Counted):
    """Writes the ground truth of its samples to a file if it is missing, as datasets of MapTR do."""

    truth_file = ""

    def evaluate(self, results: list[Any], metric: Any = "accuracy", logger: Any = None, **options: Any) -> Any:
        if not Path(self.truth_file).exists():
            Path(self.truth_file).write_text(str(len(self)))
        assert Path(self.truth_file).read_text() == str(len(results))
        return super().evaluate(results, metric, **options)


def test_a_trial_leaves_no_file_with_the_ground_truth_of_a_few_samples(tmp_path: Path) -> None:
    cfg = old_config_with_evaluation(tmp_path, metric="accuracy")
    cfg["data"]["val"]["type"] = "WithTruth"
    cfg["preflight"] = True
    runner = Runner.from_cfg(cfg)
    runner.val_dataloader.dataset.truth_file = str(tmp_path / "truth.json")
    runner.train()
    assert (tmp_path / "truth.json").read_text() == "8"


def test_a_trial_without_detections_computes_metrics() -> None:
    class Boxes:
        def __len__(self) -> int:
            return 2

        def evaluate(self, results: Any, logger: Any = None) -> dict[str, float]:
            found = [boxes for result in results for boxes in result if len(boxes)]
            return {"bbox_mAP": 0.0} if found else {}

    metric = LegacyMetric()
    metric.attach(Boxes())
    for is_trial, expected in ((False, {}), (True, {"bbox_mAP": 0.0})):
        metric.context = metric.context._replace(is_trial=is_trial)
        metric.process(None, [[np.zeros((0, 5), np.float32)] * 3] * 2)
        assert metric.evaluate(2) == expected


def test_pre_eval_gives_equal_results(tmp_path: Path) -> None:
    found = []
    for kind, pre_eval in (("OldPoints", False), ("PreEvaluated", True)):
        cfg = old_config_with_evaluation(tmp_path / kind, metric="accuracy", pre_eval=pre_eval)
        cfg["data"]["val"]["type"] = kind
        cfg["runner"] = {"max_epochs": 1}
        runner = Runner.from_cfg(cfg)
        runner.train()
        found.append(runner.message_hub.get_scalar("val/accuracy").data[0].tolist())
    assert found[0] == found[1]


def test_dataset_without_evaluate_uses_metrics_by_name() -> None:
    metric = LegacyMetric(["mIoU", "mDice"])
    metric.attach(np.zeros(3))
    (made,) = metric._fallback.metrics
    assert isinstance(made, IoUMetric)
    assert made.iou_metrics == ("mIoU", "mDice")
    with pytest.raises(ArgumentError) as caught:
        metric.process(None, [{}])
    assert not caught.value.key


@pytest.mark.parametrize(
    ("registered", "default", "found"),
    [("mmcls", "mmpose", 3), ("mmpose", None, 2), ("", "mmpose", 2), ("", None, 3)],
)
def test_results_of_whole_batches_are_concatenated_except_in_mmpose(
    registered: str, default: str | None, found: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Counting:
        def evaluate(self, results: Any, logger: Any = None) -> dict[str, float]:
            return {"count": len(results["head0"] if isinstance(results, dict) else results)}

    class Derived(Counting): ...

    monkeypatch.setattr(DATASETS, "children", {})
    if registered:
        Registry("dataset", parent=DATASETS, scope=registered).register_module(module=Counting)
    metric = LegacyMetric()
    metric.attach(Derived())
    for values in ([1.0, 2.0], [3.0]):
        metric.process(None, [BatchResult(head0=np.array(values))])
    with using_scope(default):
        assert metric.evaluate(3) == {"count": found}


@pytest.mark.parametrize("value", [0.0, {"car": 0.5}, None])
def test_results_of_whole_batches_must_have_a_value_per_sample(value: Any) -> None:
    class Asked:
        def evaluate(self, results: Any, logger: Any = None) -> dict[str, float]:
            return {"count": len(results)}

    metric = LegacyMetric()
    metric.attach(Asked())
    metric.process(None, [BatchResult(score=value)])
    with pytest.raises(ArgumentError, match="a dict for a batch, whose 'score' is not a list or an array"):
        metric.evaluate(1)


def test_masks_of_mmdetection_are_encoded() -> None:
    pytest.importorskip("pycocotools")

    class Asked:
        def evaluate(self, results: Any, logger: Any = None) -> dict[str, Any]:
            return {"sizes": [each["size"] for _, masks in results for each in masks[0]], "boxes": results[0][0]}

    metric = LegacyMetric()
    metric.attach(Asked())
    metric.process(None, [("boxes", [[np.ones((3, 5), bool)], []])])
    assert metric.evaluate(1) == {"sizes": [[3, 5]], "boxes": "boxes"}


def validations(tmp_path: Path, evaluation: dict[str, Any], *, epochs: bool = True) -> list[int]:
    """Returns the iterations after which a run of 12 iterations, or 6 epochs of 2, is validated."""
    length = {"max_epochs": 6} if epochs else {"max_iters": 12}
    cfg = old_config(tmp_path, by_epoch=epochs, evaluation={"metric": "accuracy", **evaluation})
    cfg["data"] = {**cfg["data"], "train": {"type": "OldPoints", "size": 8}}
    witness = Witness()
    runner = Runner.from_cfg({**cfg, "runner": length, "lr_config": None, "custom_hooks": [witness]})
    runner.train()
    return [iteration for iteration, _ in witness.when("before_val")]


# The iterations after which mmcv 1.7.2 validates.
SCHEDULES: list[tuple[bool, dict[str, Any], list[int]]] = [
    (True, {"start": 0, "interval": 1}, [0, 2, 4, 6, 8, 10, 12]),
    (True, {"by_epoch": False, "interval": 5}, [5, 10]),
    (False, {"start": 1, "interval": 4, "dynamic_intervals": [(9, 1)]}, [1, 5, 9, 10, 11, 12]),
]


@pytest.mark.parametrize(("epochs", "evaluation", "expected"), SCHEDULES)
def test_validation_schedule_equals_that_of_mmcv(
    tmp_path: Path, epochs: bool, evaluation: dict[str, Any], expected: list[int]
) -> None:
    assert validations(tmp_path, evaluation, epochs=epochs) == expected


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
        runner.log_buffer.output["eval_iter_num"] = len(self.dataloader)  # type: ignore[arg-type]
        score = self.evaluate(runner, results)
        if self.save_best and score:
            self._save_ckpt(runner, score)


def test_a_subclass_evaluates_in_its_own_way(tmp_path: Path) -> None:
    hook = OwnEvaluation(loader(), interval=9, metric="accuracy", classwise=True, save_best="accuracy")
    runner = trained(tmp_path, hook)
    assert hook.calls == [(1, False, False), (2, False, False)]  # the epochs of mmcv, from 0
    dataset: Any = dataset_of(hook.dataloader)
    assert [asked["classwise"] for asked in dataset.evaluations] == [True, True]
    assert runner.val_loop is not None
    assert list(runner.val_loop.metrics) == ["accuracy"]
    assert len(runner.message_hub.scalar("val/accuracy")) == 2
    assert "train/accuracy" not in runner.message_hub.log_scalars
    assert len(list(tmp_path.glob("best_accuracy_epoch_*.pth"))) == 1


@DATASETS.register_module()
class Silent(OldPoints):
    """Returns metrics only from its second evaluation, as MMDetection's datasets do without any detection."""

    def evaluate(self, results: list[Any], **options: Any) -> Any:  # type: ignore[override]
        self.evaluations.append({})
        return {"accuracy": 0.5, "copypaste": "0.5 0.4"} if len(self.evaluations) == 2 else {}


def test_log_line_has_no_metrics_of_an_earlier_validation(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cfg = old_config_with_evaluation(tmp_path, metric="accuracy")
    cfg["data"]["val"]["type"], cfg["log_level"] = "Silent", "INFO"
    Runner.from_cfg(cfg).train()
    lines = [line for line in caplog.messages if line.startswith("Epoch(val)") and "eta" not in line]
    assert [("accuracy" in line, "copypaste: 0.5 0.4" in line) for line in lines] == [
        (False, False),
        (True, True),
        (False, False),
    ]


@DATASETS.register_module()
class WithKeys(OldPoints):
    """Holds keys of a dict, which cannot be copied, as datasets of nuScenes do."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.names = {"car": 1, "truck": 2}.keys()


def test_a_trial_does_not_copy_the_dataset(tmp_path: Path) -> None:
    cfg = old_config_with_evaluation(tmp_path, metric="accuracy")
    cfg["data"]["val"]["type"] = "WithKeys"
    assert "no problems found" in check(Config(cfg)).text


def test_unknown_option_of_evaluate_raises() -> None:
    class Boxes:
        def evaluate(self, results: Any, logger: Any = None) -> dict[str, float]:
            return {}

    class Own(Boxes):
        def evaluate(self, results: Any, score_thr: float = 0.5, **options: Any) -> Any:  # type: ignore[override]
            return super().evaluate(results, **options) | {"score_thr": score_thr}

    def evaluate(**options: Any) -> dict[str, Any]:
        metric = LegacyMetric(**options)
        metric.attach(Own())
        metric.process(None, [0])
        return metric.evaluate(1)

    assert evaluate(score_thr=0.25) == {"score_thr": 0.25}
    with pytest.raises(ArgumentError, match="'Own.evaluate' does not accept the option 'score_th'") as caught:
        evaluate(score_th=0.25)
    assert (caught.value.key, caught.value.suggestion) == ("score_th", "score_thr")


def test_best_checkpoint_of_an_evaluation_by_iterations_is_named_by_the_iteration(tmp_path: Path) -> None:
    """The epochs have four iterations. mmcv names the file in the unit of the evaluation."""
    evaluation = {"interval": 3, "by_epoch": False, "metric": "accuracy", "save_best": "accuracy"}
    Runner.from_cfg(old_config(tmp_path, evaluation=evaluation)).train()
    names = sorted(path.name for path in tmp_path.glob("*.pth"))
    assert names == ["best_accuracy_iter_3.pth", "epoch_1.pth", "epoch_2.pth", "epoch_3.pth", "latest.pth"]
