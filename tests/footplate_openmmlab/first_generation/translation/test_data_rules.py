from typing import Any

import pytest

from footplate_openmmlab.first_generation.translation.config_translation import translate_sections
from tests.footplate_openmmlab.first_generation.translation.support import DATA, EPOCHS, ITERS, sections


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


def test_images_of_larger_batches_are_padded_as_by_the_scripts_of_mmdetection() -> None:
    def transforms(size: int, scope: str) -> list[str]:
        steps = [{"type": "MultiScaleFlipAug", "transforms": [{"type": "Pad"}, {"type": "ImageToTensor"}]}]
        data = {"val": {"type": "B", "pipeline": steps}, "val_dataloader": {"samples_per_gpu": size}, "train": {}}
        found = sections({**ITERS, "data": data, "evaluation": {}, "default_scope": scope})
        (step,) = found["val_dataloader"]["dataset"]["dataset"]["pipeline"]
        return [inner["type"] for inner in step["transforms"]]

    assert transforms(2, "mmdet") == ["Pad", "DefaultFormatBundle"]
    assert transforms(1, "mmdet") == transforms(2, "mmcls") == ["Pad", "ImageToTensor"]
