import sys
from pathlib import Path

import pytest

from footplate.errors import ConfigSyntaxError, MissingExtraError
from footplate.first_generation.rewriting.source import SourceFile

TEXT = """\
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
def source(tmp_path: Path) -> SourceFile:
    path = tmp_path / "config.py"
    path.write_text(TEXT)
    return SourceFile(path)


def test_statements_have_the_variable_that_they_change(source: SourceFile) -> None:
    found = [(each.name, each.assigns, each.first, each.last) for each in source.statements]
    assert found == [
        ("_base_", True, 2, 2),
        ("size", True, 4, 4),
        ("data", True, 5, 8),
        ("data", False, 9, 9),
        ("lr_config", False, 10, 10),
        ("other", False, 11, 11),
        (None, False, 12, 12),
    ]


def test_expressions_are_found_by_key_path(source: SourceFile) -> None:
    def code(*path: str) -> str | None:
        node = source.expression(path)
        return None if node is None else source.code(node)

    assert code("data", "samples_per_gpu") == "size"
    assert code("data", "train", "pipeline", "0", "type") == "'Load'"
    assert code("data", "val", "type") == "'B'"
    assert code("data", "train", "pipeline", "1") is None
    assert code("data", "test") == "_base_.data.test"
    assert code("data", "test", "type") is None
    assert code("runner", "max_iters") is None


def test_reads_of_an_expression(source: SourceFile) -> None:
    assert source.reads(source.expression(("data", "train"))) == {"dict", "more"}
    assert source.reads(source.expression(("data", "val"))) == {"_base_", "_base_.common"}


def test_bases_are_renamed_or_removed(source: SourceFile) -> None:
    assert source.bases == ["./a.py", "./b.py"]
    assert source.with_bases({"./a.py": "./c.py"})[1] == "_base_ = ['./c.py', \"./b.py\"]"
    assert source.with_bases({"./a.py": None})[1] == '_base_ = ["./b.py"]'


def test_syntax_error_has_its_line(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("a = 1\nb = (\n")
    with pytest.raises(ConfigSyntaxError) as caught:
        SourceFile(tmp_path / "bad.py")
    assert caught.value.origin is not None
    assert caught.value.origin.line >= 2


def test_missing_libcst_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "libcst", None)
    (tmp_path / "a.py").write_text("a = 1\n")
    with pytest.raises(MissingExtraError, match="rewriting config files needs the package 'libcst'"):
        SourceFile(tmp_path / "a.py")
