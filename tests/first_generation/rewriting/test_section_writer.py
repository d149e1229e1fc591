import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from footplate.config import Config, ConfigDict
from footplate.first_generation.rewriting.section_writer import (
    ExpressionFinder,
    OldExpression,
    SectionWriter,
    config_difference,
    differing_keys,
    is_identical,
)
from footplate.first_generation.rewriting.source import SourceFile
from footplate.first_generation.translation.key_map import Path as KeyPath


@pytest.mark.parametrize(
    ("first", "second", "equal"),
    [
        (1, 1, True),
        (1, True, False),
        (1, 1.0, False),
        ((1,), [1], False),
        ([1, (2,)], [1, (2,)], True),
        ({"a": 1}, {"a": 1}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        (float("nan"), float("nan"), True),
        (None, None, True),
    ],
)
def test_is_identical_compares_types(first: Any, second: Any, equal: bool) -> None:
    assert is_identical(first, second) is equal


def test_difference_is_minimal() -> None:
    inherited = {"a": {"b": 1, "c": {"d": 2}}, "gone": 1, "kept": [1]}
    expected = {"a": {"b": 1, "c": {"d": 3}}, "kept": [1], "new": (1,)}
    assert config_difference(inherited, expected, ["a", "gone", "kept", "new"]) == {
        "a": {"c": {"d": 3}},
        "gone": None,
        "new": (1,),
    }


def test_removed_keys_are_written_as_delete() -> None:
    assert config_difference({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}, ["a"]) == {"a": {"_delete_": True, "b": 1}}


def test_none_is_treated_as_an_absent_key() -> None:
    assert differing_keys({"a": None, "b": 1}, {"b": 2, "c": None}) == ["b"]


VALUES = st.recursive(
    st.one_of(st.integers(0, 3), st.booleans(), st.text("ab", max_size=1), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.sampled_from("abc"), inner, max_size=3)),
    max_leaves=8,
)
CONFIGS = st.dictionaries(st.sampled_from(["x", "y", "z"]), VALUES, max_size=3)


@given(CONFIGS, CONFIGS)
def test_difference_on_top_of_bases_resolves_to_expected(inherited: dict[str, Any], expected: dict[str, Any]) -> None:
    difference = config_difference(inherited, expected, ["x", "y", "z"])
    merged = ConfigDict(copy.deepcopy(inherited))
    merged.merge(difference)
    assert not differing_keys(Config(merged).to_dict(), expected)


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


def find_nothing(path: KeyPath) -> None:
    return None


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("value", SECTION_WRITER_VALUES, ids=repr)
def test_written_text_reads_back(value: Any, double: bool) -> None:
    text = SectionWriter(find_nothing, double_quotes=double).write({("x",): value}).text
    assert Config.fromstring(text, ".py").to_dict() == {"x": value}
    assert all(len(line) < 80 for line in text.splitlines())


def test_strings_use_the_quotes_of_the_file() -> None:
    assert (
        SectionWriter(find_nothing, double_quotes=True).write({("x",): ["a", "it's", 'b"']}).text
        == 'x = ["a", "it\'s", \'b"\']\n'
    )
    assert SectionWriter(find_nothing, double_quotes=False).write({("x",): {"a": "b"}}).text == "x = dict(a='b')\n"


def test_reused_expression_is_reindented() -> None:
    def find(path: KeyPath) -> OldExpression | None:
        return OldExpression("dict(\n        a=1,  # one\n        b=2)", 4, 10) if path == ("x", "inner") else None

    text = SectionWriter(find, double_quotes=False).write({("x",): {"inner": 0, "c": 3}}).text
    assert text == "x = dict(\n    inner=dict(\n        a=1,  # one\n        b=2),\n    c=3,\n)\n"


def test_multi_line_string_is_not_reindented() -> None:
    def find(path: KeyPath) -> OldExpression | None:
        return OldExpression('"""one\n  two"""', 8) if path == ("x", "text") else None

    assert '"""one\n  two"""' in SectionWriter(find, double_quotes=False).write({("x",): {"text": ""}}).text


def test_dict_that_is_too_wide_is_split() -> None:
    words = {"type": "A" * 30, "root": "B" * 30}
    codes = {"type": "kind", "root": f"'{'B' * 30}'"}

    def find(path: KeyPath) -> OldExpression | None:
        if path == ("x", "inner"):
            code = f"dict(type=kind, root='{'B' * 30}')"
            return OldExpression(code, keys=frozenset(words))
        return OldExpression(codes[path[-1]]) if path[-1] in codes else None

    text = SectionWriter(find, double_quotes=False).write({("x",): {"inner": words}}).text
    assert text == f"x = dict(inner=dict(type=kind, root='{'B' * 30}'))\n"
    text = SectionWriter(find, double_quotes=False).write({("x" * 30,): {"inner": words, "long": "C" * 30}}).text
    assert f"    inner=dict(type=kind, root='{'B' * 30}'),\n" in text
    codes["type"] = "kind_of_" + "k" * 30

    def find_wide(path: KeyPath) -> OldExpression | None:
        code = f"dict(type={codes['type']}, root='{'B' * 30}')"
        return OldExpression(code, keys=frozenset(words)) if path[-1] == "inner" else find(path)

    text = SectionWriter(find_wide, double_quotes=False).write({("x",): {"inner": words}}).text
    assert text.splitlines()[1:4] == [
        "    inner=dict(",
        f"        type={codes['type']},",
        f"        root='{'B' * 30}',",
    ]
