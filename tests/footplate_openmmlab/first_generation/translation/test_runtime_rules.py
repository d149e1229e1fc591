from typing import Any

import pytest

from tests.footplate_openmmlab.first_generation.translation.support import EPOCHS, sections


def test_top_level_model_settings_move_into_the_model() -> None:
    found = sections({**EPOCHS, "model": {"type": "M"}, "train_cfg": {"rpn": 1}, "test_cfg": None})
    assert found["model"] == {"train_cfg": {"rpn": 1}, "type": "M"}
    assert found["train_cfg"] == {"type": "EpochBasedTrainLoop", "max_epochs": 12}


@pytest.mark.parametrize(
    ("resume", "expected"),
    [
        ({"resume_from": "a.pth", "load_from": "b.pth"}, {"load_from": "a.pth", "resume": True}),
        ({"resume_from": None, "load_from": "b.pth"}, {"load_from": "b.pth"}),
        ({"auto_resume": True, "load_from": "b.pth"}, {"load_from": "b.pth", "resume": "auto"}),
        ({"resume_from": "a.pth", "resume": True, "load_from": None}, {"load_from": None, "resume": True}),
    ],
)
def test_resume(resume: dict[str, Any], expected: dict[str, Any]) -> None:
    found = sections({**EPOCHS, **resume})
    assert {key: found[key] for key in ("load_from", "resume") if key in found} == expected


@pytest.mark.parametrize(("flag", "expected"), [(True, "torch"), ("mmcv", "mmcv"), (False, None)])
def test_flag_for_synchronized_batch_norm(flag: Any, expected: str | None) -> None:
    assert sections({**EPOCHS, "sync_bn": flag}).get("sync_bn") == expected
