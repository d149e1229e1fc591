from pathlib import Path

import pytest

from footplate.errors import ConfigSyntaxError, MissingExtraError
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
    comments = source.comments_of_entry(source.expression(("data", *path)))
    assert [each.text for each in comments.above] == above
    assert (comments.trailing.text if comments.trailing else None) == trailing


def test_comments_inside_an_expression(source: SourceFile) -> None:
    node = source.expression(("data", "train"))
    assert [each.text for each in source.comments_inside(node)] == ["# reads", "# dict(type='Flip'),"]


def test_comments_on_lines(source: SourceFile) -> None:
    found = source.comments_on_lines(5, 6)
    assert [(each.line, each.text, each.own_line) for each in found] == [
        (5, "# not more", False),
        (6, "# for both", False),
    ]
    assert source.comments_on_lines(1, 1)[0].own_line


SOURCE_TEXT = """\
# first
_base_ = ['./a.py', "./b.py"]

size = 4  # how large
data = dict(
    samples_per_gpu=size,  # images
    train=dict(type='A', pipeline=[dict(type='Load'), *more]),
    val={'type': 'B', **_base_.common})
data['test'] = _base_.data.test
lr_config.update(step=[1])
del other['x']
a, b = 1, 2
"""


@pytest.fixture
def source_file(tmp_path: Path) -> SourceFile:
    path = tmp_path / "config.py"
    path.write_text(SOURCE_TEXT)
    return SourceFile(path)


def test_statements_have_the_variable_that_they_change(source_file: SourceFile) -> None:
    found = [(each.name, each.assigns, each.first, each.last) for each in source_file.statements]
    assert found == [
        ("_base_", True, 2, 2),
        ("size", True, 4, 4),
        ("data", True, 5, 8),
        ("data", False, 9, 9),
        ("lr_config", False, 10, 10),
        ("other", False, 11, 11),
        (None, False, 12, 12),
    ]


def test_expressions_are_found_by_key_path(source_file: SourceFile) -> None:
    def code(*path: str) -> str | None:
        node = source_file.expression(path)
        return None if node is None else source_file.code(node)

    assert code("data", "samples_per_gpu") == "size"
    assert code("data", "train", "pipeline", "0", "type") == "'Load'"
    assert code("data", "val", "type") == "'B'"
    assert code("data", "train", "pipeline", "1") is None
    assert code("data", "test") == "_base_.data.test"
    assert code("data", "test", "type") is None
    assert code("runner", "max_iters") is None


def test_reads_of_an_expression(source_file: SourceFile) -> None:
    assert source_file.reads(source_file.expression(("data", "train"))) == {"dict", "more"}
    assert source_file.reads(source_file.expression(("data", "val"))) == {"_base_", "_base_.common"}


def test_bases_are_renamed_or_removed(source_file: SourceFile) -> None:
    assert source_file.bases == ["./a.py", "./b.py"]
    assert source_file.with_bases({"./a.py": "./c.py"})[1] == "_base_ = ['./c.py', \"./b.py\"]"
    assert source_file.with_bases({"./a.py": None})[1] == '_base_ = ["./b.py"]'


def test_syntax_error_has_its_line(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("a = 1\nb = (\n")
    with pytest.raises(ConfigSyntaxError) as caught:
        SourceFile(tmp_path / "bad.py")
    assert caught.value.origin is not None
    assert caught.value.origin.line >= 2


def test_missing_libcst_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("footplate.first_generation.rewriting.source.cst", None)
    (tmp_path / "a.py").write_text("a = 1\n")
    with pytest.raises(MissingExtraError, match="rewriting config files needs the package 'libcst'"):
        SourceFile(tmp_path / "a.py")
