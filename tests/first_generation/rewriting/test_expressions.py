from pathlib import Path

import pytest

from footplate.first_generation.rewriting.expressions import ExpressionFinder
from footplate.first_generation.rewriting.source import SourceFile

TEXT = """\
size = 4
common = dict(type='A')
data = dict(
    samples_per_gpu=size * 2,  # twice
    train=dict(type='A', pipeline=[]),
    val=common)
data['test'] = data['train']
lr_config = dict(_delete_=True, policy='step', step=[8])
runner = dict(max_epochs=_base_.runner.max_epochs)
optimizer = dict(type='SGD', **common)
"""


@pytest.fixture
def finder(tmp_path: Path) -> ExpressionFinder:
    path = tmp_path / "config.py"
    path.write_text(TEXT)
    return ExpressionFinder(SourceFile(path), {"data", "lr_config", "runner", "optimizer"}, ["randomness"])


def test_expression_has_variables_and_comments(finder: ExpressionFinder) -> None:
    found = finder.find(("train_dataloader", "batch_size"))
    assert found is not None
    assert (found.code, found.reads, found.keys) == ("size * 2", frozenset({"size"}), None)
    assert found.comments.trailing is not None
    assert found.comments.trailing.text == "# twice"


def test_keys_of_a_dict_expression(finder: ExpressionFinder) -> None:
    train = finder.find(("train_dataloader", "dataset", "dataset"))
    assert train is not None
    assert train.keys == frozenset({"type", "pipeline"})
    optimizer = finder.find(("optim_wrapper", "optimizer"))
    assert optimizer is not None
    assert optimizer.keys is None


def test_item_of_a_removed_variable_is_resolved(finder: ExpressionFinder) -> None:
    found = finder.find(("test_dataloader", "dataset", "dataset"))
    assert found is not None
    assert found.code == "dict(type='A', pipeline=[])"


def test_expression_reading_a_removed_base_key_is_not_reusable(finder: ExpressionFinder) -> None:
    found = finder.find(("train_cfg", "max_epochs"))
    assert found is not None
    assert found.code is None


def test_sections_by_value_reuse_no_expressions(finder: ExpressionFinder) -> None:
    assert finder.find(("randomness", "seed")) is None
    assert finder.find(("work_dir",)) is None


@pytest.mark.parametrize(
    ("path", "is_written"),
    [
        (("train_dataloader", "batch_size"), True),
        (("train_dataloader", "num_workers"), False),
        (("train_dataloader", "dataset", "dataset"), False),  # written entry by entry
        (("train_dataloader", "dataset", "dataset", "type"), True),
        (("val_dataloader", "dataset", "dataset"), True),
        (("param_scheduler",), True),
        (("train_cfg", "max_epochs"), False),
        (("optim_wrapper", "optimizer", "_delete_"), False),
    ],
)
def test_is_written(finder: ExpressionFinder, path: tuple[str, ...], is_written: bool) -> None:
    assert finder.is_written(path) is is_written
