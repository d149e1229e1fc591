from pathlib import Path
from typing import Any

import pytest

from footplate.migration.rewriting.rewrite import rewritten
from footplate.migration.rewriting.source import SourceFile

GONE = {"runner", "evaluation", "data", "optimizer", "seed"}


def written(folder: Path, text: str, said: dict[str, Any], **options: Any) -> str:
    path = folder / "config.py"
    path.write_text(text)
    return rewritten(SourceFile(path), said, gone=GONE, renamed={}, **options)


def test_a_section_stands_where_its_key_was(tmp_path: Path) -> None:
    text = "# seed\nseed = 1  # any\n\nwork_dir = 'w'\nrunner = dict(max_epochs=2)\n"
    said = {"train_cfg": {"max_epochs": 2}, "randomness": {"seed": 1}}
    assert written(tmp_path, text, said) == (
        "# seed\nrandomness = dict(seed=1)  # any\n\nwork_dir = 'w'\ntrain_cfg = dict(max_epochs=2)\n"
    )


def test_a_section_stands_behind_the_variables_that_it_reads(tmp_path: Path) -> None:
    text = "runner = dict(max_epochs=2)\ninterval = 5\nevaluation = dict(interval=interval)\n"
    said = {"train_cfg": {"max_epochs": 2, "val_interval": 5}, "val_cfg": {"type": "ValLoop"}}
    assert written(tmp_path, text, said) == (
        "interval = 5\ntrain_cfg = dict(max_epochs=2, val_interval=interval)\nval_cfg = dict(type='ValLoop')\n"
    )


def test_comments_go_with_their_entries_and_the_rest_above(tmp_path: Path) -> None:
    text = """\
data = dict(
    samples_per_gpu=4,  # not more
    # what is learned from
    train=dict(type='A'),
    # nothing to test
)
"""
    said = {"train_dataloader": {"batch_size": 4, "dataset": {"dataset": {"type": "A"}}}}
    assert written(tmp_path, text, said) == (
        """\
# nothing to test
train_dataloader = dict(
    batch_size=4,  # not more
    dataset=dict(
        # what is learned from
        dataset=dict(type='A'),
    ),
)
"""
    )


def test_what_other_lines_read_stays_until_the_end(tmp_path: Path) -> None:
    text = "seed = 3\nname = f'run{seed}'\n"
    assert written(tmp_path, text, {"randomness": {"seed": 3}}) == (
        "seed = 3\nrandomness = dict(seed=3)\nname = f'run{seed}'\ndel seed\n"
    )


def test_values_are_written_out_where_an_expression_would_not_do(tmp_path: Path) -> None:
    text = "lr = 0.1\noptimizer = dict(type='SGD', lr=lr)\n"
    said = {"optim_wrapper": {"optimizer": {"type": "SGD", "lr": 0.1}}}
    assert "lr=lr" in written(tmp_path, text, said)
    assert "lr=0.1" in written(tmp_path, text, said, by_value=["optim_wrapper"])


@pytest.mark.parametrize(("mark", "other"), [('"', "'"), ("'", '"')])
def test_texts_have_the_marks_of_the_file(tmp_path: Path, mark: str, other: str) -> None:
    text = f"a = {mark}x{mark}\nseed = 1\n"
    assert other not in written(tmp_path, text, {"randomness": {"name": "s"}})


def test_settings_beside_a_model_are_put_into_it(tmp_path: Path) -> None:
    text = "model = dict(\n    type='GAN')  # small\ntrain_cfg = dict(a=1)  # often\ntest_cfg = dict(b=2)\n"
    path = tmp_path / "config.py"
    path.write_text(text)
    said = {"model": {"type": "GAN", "train_cfg": {"a": 1}, "test_cfg": {"b": 2}}}
    found = rewritten(SourceFile(path), said, gone={"train_cfg", "test_cfg"}, renamed={})
    assert found == (
        "model = dict(\n    type='GAN')  # small\n"
        "# often\nmodel['train_cfg'] = dict(a=1)\nmodel['test_cfg'] = dict(b=2)\n"
    )
