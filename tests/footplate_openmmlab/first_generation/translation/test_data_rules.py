from typing import Any

import pytest

from footplate_openmmlab.first_generation.translation.config_translation import translate_sections
from tests.footplate_openmmlab.first_generation.translation.support import DATA, EPOCHS, ITERS, sections

LOADERS: list[tuple[dict[str, Any], str, dict[str, Any]]] = [
    ({"samples_per_gpu": 4, "workers_per_gpu": 3}, "train_dataloader", {"batch_size": 4, "num_workers": 3}),
    (
        {"samples_per_gpu": 4, "drop_last": True, "train_dataloader": {"samples_per_gpu": 8, "pin_memory": True}},
        "train_dataloader",
        {"batch_size": 8, "batch_sampler": {"type": "LegacyBatchSampler", "drop_last": True}, "pin_memory": True},
    ),
    ({"drop_last": True, "val_dataloader": {"samples_per_gpu": 8}}, "val_dataloader", {"batch_size": 8}),
]


@pytest.mark.parametrize(("settings", "name", "expected"), LOADERS)
def test_each_split_becomes_a_dataloader(settings: dict[str, Any], name: str, expected: dict[str, Any]) -> None:
    data = {"train": {"type": "A"}, "val": {"type": "B"}, "test": {"type": "C"}, **settings}
    loader = sections({**EPOCHS, "data": data, "evaluation": {}})[name]
    assert {key: loader[key] for key in expected} == expected
    assert "drop_last" not in loader
    assert loader["sampler"] == {"type": "DefaultSampler", "shuffle": name == "train_dataloader"}


@pytest.mark.parametrize(("scope", "drops"), [("mmseg", True), ("mmcls", False)])
def test_incomplete_batches_are_dropped_as_by_the_scripts_of_mmsegmentation(scope: str, drops: bool) -> None:
    data = {"samples_per_gpu": 4, "train": {"type": "A"}}
    loader = sections({**EPOCHS, "data": data, "default_scope": scope})["train_dataloader"]
    assert loader.get("drop_last", False) is drops


@pytest.mark.parametrize(("scope", "size"), [("mmcls", 4), ("mmseg", 1)])
def test_batch_size_of_validation_is_that_of_the_code_base(scope: str, size: int) -> None:
    data = {"samples_per_gpu": 4, "val": {"type": "B"}, "test": {"type": "C"}}
    found, notes = translate_sections({**EPOCHS, "data": data, "evaluation": {}, "default_scope": scope})
    assert found["val_dataloader"]["batch_size"] == found["test_dataloader"]["batch_size"] == size
    assert any("only affects training" in note.text for note in notes) == (size == 1)


def test_list_of_datasets_becomes_concat_dataset() -> None:
    data = {"train": [{"type": "A"}, {"type": "B"}], "val": [{"type": "A", "samples_per_gpu": 3}, {"type": "B"}]}
    found = sections({**ITERS, "data": {"samples_per_gpu": 1, **data}, "evaluation": {}})
    several = {"type": "ConcatDataset", "datasets": [{"type": "A"}, {"type": "B"}]}
    assert found["train_dataloader"]["dataset"] == {"type": "LegacyDataset", "dataset": several}
    assert found["val_dataloader"]["dataset"] == {"type": "LegacyDataset", "dataset": several, "test_mode": True}
    assert found["val_dataloader"]["batch_size"] == 3


def test_validation_data_without_evaluation_are_kept_as_val_dataset() -> None:
    found = sections({**EPOCHS, **DATA})
    assert found["val_dataset"] == {"type": "B"}
    assert "val_dataloader" not in found
    assert found["test_evaluator"] == {"type": "LegacyMetric"}


def test_metrics_of_an_evaluation_are_not_those_of_an_evaluator() -> None:
    evaluator = sections({**EPOCHS, **DATA, "evaluation": {"metrics": ["box"]}})["val_evaluator"]
    assert evaluator == [{"type": "LegacyMetric", "metrics": ["box"]}]


@pytest.mark.parametrize("evaluation", [{"start": 0}, {"by_epoch": False, "interval": 50}])
def test_interval_unsupported_by_the_loop_becomes_eval_hook(evaluation: dict[str, Any]) -> None:
    found = sections({**EPOCHS, **DATA, "evaluation": evaluation})
    assert found["train_cfg"]["val_begin"] == 13
    expected = {"type": "EvalHook", "interval": 1, "by_epoch": True, "priority": "LOW", **evaluation}
    assert found["custom_hooks"] == [expected]


def test_save_best_without_checkpoint_config_saves_only_the_best() -> None:
    cfg = {**ITERS, **DATA, "checkpoint_config": None, "evaluation": {"interval": 10, "save_best": "auto"}}
    saved = {"interval": -1, "save_last": False, "by_epoch": False, "save_best": "auto", "priority": "NORMAL"}
    assert sections(cfg)["default_hooks"]["checkpoint"] == saved


ALONE = {"interval": -1, "save_last": False, "save_best": "auto"}


@pytest.mark.parametrize("checkpoint", [None, {"interval": 1}, {"interval": 50, "by_epoch": False}])
@pytest.mark.parametrize("by_epoch", [True, False])
def test_best_checkpoint_is_named_by_the_unit_of_the_evaluation(
    checkpoint: dict[str, Any] | None, *, by_epoch: bool
) -> None:
    evaluation = {"interval": 4, "by_epoch": by_epoch, "save_best": "auto"}
    found = sections({**EPOCHS, **DATA, "checkpoint_config": checkpoint, "evaluation": evaluation})
    regular = found["default_hooks"]["checkpoint"]
    extra = [hook for hook in found.get("custom_hooks", []) if hook["type"] == "CheckpointHook"]
    saver = next(hook for hook in [regular, *extra] if "save_best" in hook)
    assert saver["by_epoch"] is by_epoch
    is_same = checkpoint is None or checkpoint.get("by_epoch", True) == by_epoch
    assert extra == ([] if is_same else [{"type": "CheckpointHook", "by_epoch": by_epoch, **ALONE}])


def test_images_of_larger_batches_are_padded_as_by_the_scripts_of_mmdetection() -> None:
    def transforms(size: int, scope: str) -> list[str]:
        steps = [{"type": "MultiScaleFlipAug", "transforms": [{"type": "Pad"}, {"type": "ImageToTensor"}]}]
        data = {"val": {"type": "B", "pipeline": steps}, "val_dataloader": {"samples_per_gpu": size}, "train": {}}
        found = sections({**ITERS, "data": data, "evaluation": {}, "default_scope": scope})
        (step,) = found["val_dataloader"]["dataset"]["dataset"]["pipeline"]
        return [inner["type"] for inner in step["transforms"]]

    assert transforms(2, "mmdet") == ["Pad", "DefaultFormatBundle"]
    assert transforms(1, "mmdet") == transforms(2, "mmcls") == ["Pad", "ImageToTensor"]
