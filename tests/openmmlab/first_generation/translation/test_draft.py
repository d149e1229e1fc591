from typing import Any

import pytest

from footplate.config import Config, ConfigDict
from footplate.errors import Origin
from footplate.openmmlab.first_generation.translation.draft import Draft, Kind, Note


@pytest.mark.parametrize(
    ("origin", "line"),
    [
        (Origin("old.py", 12), "old.py:12: evaluation.start: counts from 1"),
        (None, "evaluation.start: counts from 1"),
    ],
)
def test_note_is_one_line_with_its_origin(origin: Origin | None, line: str) -> None:
    assert str(Note(Kind.WARNING, "evaluation.start", "counts from 1", origin)) == line


TEXT = """\
runner = dict(type='EpochBasedRunner', max_epochs=12)
evaluation = dict(
    interval=2,
    metric='mIoU')
"""


def written() -> ConfigDict:
    return Config.fromstring(TEXT, ".py")._cfg_dict


@pytest.mark.parametrize(
    ("given", "by_epoch", "length"),
    [
        ({}, True, None),
        ({"total_epochs": 4}, True, 4),
        ({"total_iters": 9}, False, 9),
        ({"runner": {"type": "EpochBasedRunner", "max_epochs": 12}}, True, 12),
        ({"runner": {"type": "IterBasedRunner", "max_iters": 80}, "total_epochs": 4}, False, 80),
        ({"runner": {"type": "IterBasedRunner"}}, False, None),
        ({"runner": {"type": "EpochBasedRunner"}}, True, None),
    ],
)
def test_run_length_and_unit(given: dict[str, Any], by_epoch: bool, length: int | None) -> None:
    draft = Draft(given)
    assert (draft.by_epoch, draft.length) == (by_epoch, length)


def test_notes_have_the_origin_of_the_nearest_written_key() -> None:
    draft = Draft(written())
    draft.became("evaluation.metric", "the evaluator's")
    draft.warn("evaluation.absent", "has no counterpart")
    draft.ask("nowhere", "look")
    lines = [(note.kind, note.origin and note.origin.line) for note in draft.notes]
    assert lines == [(Kind.BECAME, 4), (Kind.WARNING, 2), (Kind.PERSON, 1)]
