from typing import Any

import pytest

from footplate.openmmlab.first_generation.translation import Kind
from tests.openmmlab.first_generation.translation.support import EPOCHS, notes, sections


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


def test_user_defined_runner_needs_a_manual_check() -> None:
    cfg = {"runner": {"type": "EpochBasedRuner", "max_epochs": 1}}
    assert notes(cfg, Kind.PERSON) == [
        "runner.type: 'EpochBasedRuner' is not a built-in runner; only its length is kept; "
        "did you mean 'EpochBasedRunner'?"
    ]


@pytest.mark.parametrize(
    ("total", "kind", "text"), [(12, Kind.BECAME, "train_cfg.max_epochs"), (9, Kind.WARNING, "9 conflicts with")]
)
def test_duplicate_run_length_is_noted(total: int, kind: Kind, text: str) -> None:
    assert [note for note in notes({**EPOCHS, "total_epochs": total}, kind) if note.startswith(f"total_epochs: {text}")]


@pytest.mark.parametrize(
    ("cfg", "made"),
    [
        ({"runner": EPOCHS["runner"]}, {"type": "EpochBasedTrainLoop", "max_epochs": 12}),
        (
            {"runner": {"type": "IterBasedRunner", "max_iters": 80000}},
            {"type": "IterBasedTrainLoop", "max_iters": 80000},
        ),
        ({"runner": {"type": "MyRunner"}, "total_iters": 3}, {"type": "IterBasedTrainLoop", "max_iters": 3}),
    ],
)
def test_run_length_becomes_train_cfg(cfg: dict[str, Any], made: dict[str, Any]) -> None:
    assert sections(cfg)["train_cfg"] == made
