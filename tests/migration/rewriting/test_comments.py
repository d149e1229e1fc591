from pathlib import Path

import pytest

from footplate.migration.rewriting.source import SourceFile

TEXT = """\
# first
data = dict(
    # how many at once
    # (for one card)
    samples_per_gpu=4,  # not more
    workers_per_gpu=2, pin_memory=True,  # for both
    train=dict(
        type='A',
        pipeline=[
            dict(type='Load'),  # reads
            # dict(type='Flip'),
        ]),  # what is learned from
    val=dict(type='B'))  # of the statement
"""


@pytest.fixture
def source(tmp_path: Path) -> SourceFile:
    path = tmp_path / "config.py"
    path.write_text(TEXT)
    return SourceFile(path)


@pytest.mark.parametrize(
    ("path", "above", "behind"),
    [
        (("samples_per_gpu",), ["# how many at once", "# (for one card)"], "# not more"),
        (("workers_per_gpu",), [], None),
        (("pin_memory",), [], "# for both"),
        (("train",), [], "# what is learned from"),
        (("train", "pipeline"), [], None),
        (("train", "pipeline", "0"), [], "# reads"),
        (("val",), [], None),
    ],
)
def test_a_comment_speaks_of_one_entry(
    source: SourceFile, path: tuple[str, ...], above: list[str], behind: str | None
) -> None:
    beside = source.comments_of.beside(source.expression(("data", *path)))
    assert [each.text for each in beside.above] == above
    assert (beside.behind.text if beside.behind else None) == behind


def test_comments_within_an_expression(source: SourceFile) -> None:
    node = source.expression(("data", "train"))
    assert [each.text for each in source.comments_of.within(node)] == ["# reads", "# dict(type='Flip'),"]


def test_comments_on_lines(source: SourceFile) -> None:
    found = source.comments_of.on_lines(5, 6)
    assert [(each.line, each.text, each.alone) for each in found] == [
        (5, "# not more", False),
        (6, "# for both", False),
    ]
    assert source.comments_of.on_lines(1, 1)[0].alone
