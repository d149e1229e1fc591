from pathlib import Path

import pytest

from footplate.first_generation.rewriting.source import SourceFile

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
        ]),  # the training data
    val=dict(type='B'))  # of the statement
"""


@pytest.fixture
def source(tmp_path: Path) -> SourceFile:
    path = tmp_path / "config.py"
    path.write_text(TEXT)
    return SourceFile(path)


@pytest.mark.parametrize(
    ("path", "above", "trailing"),
    [
        (("samples_per_gpu",), ["# how many at once", "# (for one card)"], "# not more"),
        (("workers_per_gpu",), [], None),
        (("pin_memory",), [], "# for both"),
        (("train",), [], "# the training data"),
        (("train", "pipeline"), [], None),
        (("train", "pipeline", "0"), [], "# reads"),
        (("val",), [], None),
    ],
)
def test_comments_of_an_entry(
    source: SourceFile, path: tuple[str, ...], above: list[str], trailing: str | None
) -> None:
    comments = source.comments.of_entry(source.expression(("data", *path)))
    assert [each.text for each in comments.above] == above
    assert (comments.trailing.text if comments.trailing else None) == trailing


def test_comments_inside_an_expression(source: SourceFile) -> None:
    node = source.expression(("data", "train"))
    assert [each.text for each in source.comments.inside(node)] == ["# reads", "# dict(type='Flip'),"]


def test_comments_on_lines(source: SourceFile) -> None:
    found = source.comments.on_lines(5, 6)
    assert [(each.line, each.text, each.own_line) for each in found] == [
        (5, "# not more", False),
        (6, "# for both", False),
    ]
    assert source.comments.on_lines(1, 1)[0].own_line
