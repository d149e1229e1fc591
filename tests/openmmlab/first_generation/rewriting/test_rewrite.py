from pathlib import Path
from typing import Any

import pytest

from footplate.config import Config
from footplate.openmmlab.first_generation.rewriting.rewrite import (
    SectionWriter,
    rewrite,
)
from footplate.openmmlab.first_generation.rewriting.source import SourceFile

REMOVED = {"runner", "evaluation", "data", "optimizer", "seed"}


def rewritten(folder: Path, text: str, sections: dict[str, Any], **options: Any) -> str:
    path = folder / "config.py"
    path.write_text(text)
    return rewrite(SourceFile(path), sections, removed=REMOVED, **options)


def test_section_replaces_its_key_in_place(tmp_path: Path) -> None:
    text = "# seed\nseed = 1  # any\n\nwork_dir = 'w'\nrunner = dict(max_epochs=2)\n"
    sections = {"train_cfg": {"max_epochs": 2}, "randomness": {"seed": 1}}
    assert rewritten(tmp_path, text, sections) == (
        "# seed\nrandomness = dict(seed=1)  # any\n\nwork_dir = 'w'\ntrain_cfg = dict(max_epochs=2)\n"
    )


def test_section_follows_the_variables_that_it_reads(tmp_path: Path) -> None:
    text = "runner = dict(max_epochs=2)\ninterval = 5\nevaluation = dict(interval=interval)\n"
    sections = {"train_cfg": {"max_epochs": 2, "val_interval": 5}, "val_cfg": {"type": "ValLoop"}}
    assert rewritten(tmp_path, text, sections) == (
        "val_cfg = dict(type='ValLoop')\ninterval = 5\ntrain_cfg = dict(max_epochs=2, val_interval=interval)\n"
    )


def test_comments_move_with_their_entries(tmp_path: Path) -> None:
    text = """\
data = dict(
    samples_per_gpu=4,  # not more
    # the training data
    train=dict(type='A'),
    # nothing to test
)
"""
    sections = {"train_dataloader": {"batch_size": 4, "dataset": {"dataset": {"type": "A"}}}}
    assert rewritten(tmp_path, text, sections) == (
        """\
# nothing to test
train_dataloader = dict(
    batch_size=4,  # not more
    dataset=dict(
        # the training data
        dataset=dict(type='A'),
    ),
)
"""
    )


def test_top_level_model_settings_are_assigned_into_the_model(tmp_path: Path) -> None:
    text = "model = dict(\n    type='GAN')  # small\ntrain_cfg = dict(a=1)  # often\ntest_cfg = dict(b=2)\n"
    path = tmp_path / "config.py"
    path.write_text(text)
    sections = {"model": {"type": "GAN", "train_cfg": {"a": 1}, "test_cfg": {"b": 2}}}
    found = rewrite(SourceFile(path), sections, removed={"train_cfg", "test_cfg"})
    assert found == (
        "model = dict(\n    type='GAN')  # small\n"
        "# often\nmodel['train_cfg'] = dict(a=1)\nmodel['test_cfg'] = dict(b=2)\n"
    )


LONG = {"type": "A" * 30, "pipeline": [{"type": "Load" * 8}, {"type": "Flip", "prob": 0.5}], "size": (1,), "e": {}}
SECTION_WRITER_VALUES: list[Any] = [
    1,
    0.1,
    None,
    float("inf"),
    (),
    (1,),
    [],
    {},
    {"a.b": {"lr_mult": 0.5}, "class": 1},
    LONG,
    {"deep": LONG, 3: [LONG]},
    "it's",
    'say "so"',
    "both ' and \"",
    "line\nbreak",
    {"_delete_": True, "x": [(), {}]},
]


@pytest.mark.parametrize("value", SECTION_WRITER_VALUES, ids=repr)
def test_written_text_reads_back(value: Any, tmp_path: Path) -> None:
    (tmp_path / "old.py").write_text("y = 1\n")
    text = SectionWriter(SourceFile(tmp_path / "old.py")).write(("x",), value)
    assert Config.fromstring(text, ".py").to_dict() == {"x": value}
    assert all(len(line) < 80 for line in text.splitlines())
