from typing import Any

import pytest

from footplate.config import Config, ConfigDict
from footplate.error_context import origin_of
from footplate.errors import ConfigError, Origin
from footplate.first_generation.translation.draft import Draft, Kind, Note, with_origins


@pytest.mark.parametrize(
    ("origin", "line"),
    [
        (Origin("old.py", 12), "old.py:12: evaluation.start: counts from 1"),
        (None, "evaluation.start: counts from 1"),
    ],
)
def test_note_is_one_line_with_its_origin(origin: Origin | None, line: str) -> None:
    assert str(Note(Kind.WARNING, "evaluation.start", "counts from 1", origin)) == line


def test_values_of_kinds() -> None:
    assert [kind.value for kind in Kind] == ["became", "warning", "person"]


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


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"runner": {"max_epochs": 0}}, "runner.max_epochs"),
        ({"runner": {"max_iters": -3}}, "runner.max_iters"),
        ({"total_epochs": True}, "total_epochs"),
        ({"total_iters": 2.5}, "total_iters"),
    ],
)
def test_invalid_run_length_raises(given: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match="the length of a run must be a positive integer") as raised:
        _ = Draft(given).length
    assert raised.value.key == key


def test_take_removes_key_and_leaves_config_unchanged() -> None:
    given = {"evaluation": {"interval": 2}, "seed": 3}
    draft = Draft(given)
    taken = draft.take("evaluation")
    taken["interval"] = 5
    assert (draft.take("evaluation"), draft.take("seed"), draft.take("absent")) == (None, 3, None)
    assert draft.remaining == {}
    assert given == {"evaluation": {"interval": 2}, "seed": 3}


def test_write_records_source_keys() -> None:
    draft = Draft({})
    draft.write("train_cfg.val_interval", 2, "evaluation")
    draft.write_all("default_hooks.checkpoint", {"interval": 3, "rule": "less"}, "checkpoint_config")
    draft.append("custom_hooks", {"type": "A"}, "custom_hooks")
    draft.append("custom_hooks", {"type": "B"}, "workflow")
    assert draft.translated == {
        "train_cfg": {"val_interval": 2},
        "default_hooks": {"checkpoint": {"interval": 3, "rule": "less"}},
        "custom_hooks": [{"type": "A"}, {"type": "B"}],
    }
    assert draft.sources == {
        ("train_cfg", "val_interval"): "evaluation",
        ("default_hooks", "checkpoint", "interval"): "checkpoint_config",
        ("default_hooks", "checkpoint", "rule"): "checkpoint_config",
        ("custom_hooks", "0"): "custom_hooks",
        ("custom_hooks", "1"): "workflow",
    }


def test_notes_have_the_origin_of_the_nearest_written_key() -> None:
    draft = Draft(written())
    draft.became("evaluation.metric", "the evaluator's")
    draft.warn("evaluation.absent", "has no counterpart")
    draft.ask("nowhere", "look")
    lines = [(note.kind, note.origin and note.origin.line) for note in draft.notes]
    assert lines == [(Kind.BECAME, 4), (Kind.WARNING, 2), (Kind.PERSON, 1)]


def test_with_origins_copies_origins_of_keys_or_section() -> None:
    source = written()["evaluation"]
    made = with_origins({"every": 2, "metric": "mIoU", "new": 1}, source, {"every": "interval"})
    places = {key: (origin := origin_of(made, key)) and origin.line for key in made}
    assert places == {"every": 3, "metric": 4, "new": 2}
