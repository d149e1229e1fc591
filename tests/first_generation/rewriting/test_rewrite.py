from pathlib import Path
from typing import Any

import pytest

from footplate.config import Config
from footplate.first_generation.rewriting.rewrite import ExpressionFinder, OldExpression, SectionWriter, rewrite
from footplate.first_generation.rewriting.source import SourceFile
from footplate.first_generation.translation.key_map import Path as KeyPath

REMOVED = {"runner", "evaluation", "data", "optimizer", "seed"}


def rewritten(folder: Path, text: str, sections: dict[str, Any], **options: Any) -> str:
    path = folder / "config.py"
    path.write_text(text)
    return rewrite(SourceFile(path), sections, removed=REMOVED, renamed={}, **options)


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
        "interval = 5\ntrain_cfg = dict(max_epochs=2, val_interval=interval)\nval_cfg = dict(type='ValLoop')\n"
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


def test_variable_read_by_other_lines_is_deleted_at_the_end(tmp_path: Path) -> None:
    text = "seed = 3\nname = f'run{seed}'\n"
    assert rewritten(tmp_path, text, {"randomness": {"seed": 3}}) == (
        "seed = 3\nrandomness = dict(seed=3)\nname = f'run{seed}'\ndel seed\n"
    )


def test_by_value_writes_plain_values(tmp_path: Path) -> None:
    text = "lr = 0.1\noptimizer = dict(type='SGD', lr=lr)\n"
    sections = {"optim_wrapper": {"optimizer": {"type": "SGD", "lr": 0.1}}}
    assert "lr=lr" in rewritten(tmp_path, text, sections)
    assert "lr=0.1" in rewritten(tmp_path, text, sections, by_value=["optim_wrapper"])


@pytest.mark.parametrize(("quote", "other"), [('"', "'"), ("'", '"')])
def test_strings_use_the_quotes_of_the_file(tmp_path: Path, quote: str, other: str) -> None:
    text = f"a = {quote}x{quote}\nseed = 1\n"
    assert other not in rewritten(tmp_path, text, {"randomness": {"name": "s"}})


def test_top_level_model_settings_are_assigned_into_the_model(tmp_path: Path) -> None:
    text = "model = dict(\n    type='GAN')  # small\ntrain_cfg = dict(a=1)  # often\ntest_cfg = dict(b=2)\n"
    path = tmp_path / "config.py"
    path.write_text(text)
    sections = {"model": {"type": "GAN", "train_cfg": {"a": 1}, "test_cfg": {"b": 2}}}
    found = rewrite(SourceFile(path), sections, removed={"train_cfg", "test_cfg"}, renamed={})
    assert found == (
        "model = dict(\n    type='GAN')  # small\n"
        "# often\nmodel['train_cfg'] = dict(a=1)\nmodel['test_cfg'] = dict(b=2)\n"
    )


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


def test_writer_uses_the_quotes_of_the_file() -> None:
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
