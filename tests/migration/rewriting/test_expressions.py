from pathlib import Path

import pytest

from footplate.migration.rewriting.expressions import ExpressionFinder
from footplate.migration.rewriting.source import SourceFile

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
def quoter(tmp_path: Path) -> ExpressionFinder:
    path = tmp_path / "config.py"
    path.write_text(TEXT)
    return ExpressionFinder(SourceFile(path), {"data", "lr_config", "runner", "optimizer"}, ["randomness"])


def test_an_expression_comes_with_what_it_reads_and_its_comments(quoter: ExpressionFinder) -> None:
    found = quoter.quote(("train_dataloader", "batch_size"))
    assert found is not None
    assert (found.code, found.reads, found.keys) == ("size * 2", frozenset({"size"}), None)
    assert found.beside.behind is not None
    assert found.beside.behind.text == "# twice"


def test_the_keys_of_a_dict_are_known(quoter: ExpressionFinder) -> None:
    train = quoter.quote(("train_dataloader", "dataset", "dataset"))
    assert train is not None
    assert train.keys == frozenset({"type", "pipeline"})
    optimizer = quoter.quote(("optim_wrapper", "optimizer"))
    assert optimizer is not None
    assert optimizer.keys is None


def test_an_item_of_what_gives_way_is_what_it_stands_for(quoter: ExpressionFinder) -> None:
    found = quoter.quote(("test_dataloader", "dataset", "dataset"))
    assert found is not None
    assert found.code == "dict(type='A', pipeline=[])"


def test_what_reads_an_old_key_of_a_base_cannot_stand(quoter: ExpressionFinder) -> None:
    found = quoter.quote(("train_cfg", "max_epochs"))
    assert found is not None
    assert found.code is None


def test_sections_that_are_written_out_are_not_quoted(quoter: ExpressionFinder) -> None:
    assert quoter.quote(("randomness", "seed")) is None
    assert quoter.quote(("work_dir",)) is None


@pytest.mark.parametrize(
    ("path", "says"),
    [
        (("train_dataloader", "batch_size"), True),
        (("train_dataloader", "num_workers"), False),
        (("train_dataloader", "dataset", "dataset"), False),  # its entries do
        (("train_dataloader", "dataset", "dataset", "type"), True),
        (("val_dataloader", "dataset", "dataset"), True),
        (("param_scheduler",), True),
        (("train_cfg", "max_epochs"), False),
        (("optim_wrapper", "optimizer", "_delete_"), False),
    ],
)
def test_what_a_file_says_itself(quoter: ExpressionFinder, path: tuple[str, ...], says: bool) -> None:
    assert quoter.says(path) is says
