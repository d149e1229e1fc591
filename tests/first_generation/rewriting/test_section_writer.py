from typing import Any

import pytest

from footplate import Config
from footplate.first_generation.rewriting.expressions import OldExpression
from footplate.first_generation.rewriting.section_writer import SectionWriter
from footplate.first_generation.translation.key_map import Path

LONG = {"type": "A" * 30, "pipeline": [{"type": "Load" * 8}, {"type": "Flip", "prob": 0.5}], "size": (1,), "e": {}}
VALUES: list[Any] = [
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


def find_nothing(path: Path) -> None:
    return None


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_written_text_reads_back(value: Any, double: bool) -> None:
    text = SectionWriter(find_nothing, double_quotes=double).statement("x", value).text
    assert Config.fromstring(text, ".py").to_dict() == {"x": value}
    assert all(len(line) < 80 for line in text.splitlines())


def test_strings_use_the_quotes_of_the_file() -> None:
    assert (
        SectionWriter(find_nothing, double_quotes=True).statement("x", ["a", "it's", 'b"']).text
        == 'x = ["a", "it\'s", \'b"\']\n'
    )
    assert SectionWriter(find_nothing, double_quotes=False).statement("x", {"a": "b"}).text == "x = dict(a='b')\n"


def test_reused_expression_is_reindented() -> None:
    def find(path: Path) -> OldExpression | None:
        return OldExpression("dict(\n        a=1,  # one\n        b=2)", 4, 10) if path == ("x", "inner") else None

    text = SectionWriter(find, double_quotes=False).statement("x", {"inner": 0, "c": 3}).text
    assert text == "x = dict(\n    inner=dict(\n        a=1,  # one\n        b=2),\n    c=3,\n)\n"


def test_multi_line_string_is_not_reindented() -> None:
    def find(path: Path) -> OldExpression | None:
        return OldExpression('"""one\n  two"""', 8) if path == ("x", "text") else None

    assert '"""one\n  two"""' in SectionWriter(find, double_quotes=False).statement("x", {"text": ""}).text


def test_dict_that_is_too_wide_is_split() -> None:
    words = {"type": "A" * 30, "root": "B" * 30}
    codes = {"type": "kind", "root": f"'{'B' * 30}'"}

    def find(path: Path) -> OldExpression | None:
        if path == ("x", "inner"):
            code = f"dict(type=kind, root='{'B' * 30}')"
            return OldExpression(code, keys=frozenset(words))
        return OldExpression(codes[path[-1]]) if path[-1] in codes else None

    text = SectionWriter(find, double_quotes=False).statement("x", {"inner": words}).text
    assert text == f"x = dict(inner=dict(type=kind, root='{'B' * 30}'))\n"
    text = SectionWriter(find, double_quotes=False).statement("x" * 30, {"inner": words, "long": "C" * 30}).text
    assert f"    inner=dict(type=kind, root='{'B' * 30}'),\n" in text
    codes["type"] = "kind_of_" + "k" * 30

    def find_wide(path: Path) -> OldExpression | None:
        code = f"dict(type={codes['type']}, root='{'B' * 30}')"
        return OldExpression(code, keys=frozenset(words)) if path[-1] == "inner" else find(path)

    text = SectionWriter(find_wide, double_quotes=False).statement("x", {"inner": words}).text
    assert text.splitlines()[1:4] == [
        "    inner=dict(",
        f"        type={codes['type']},",
        f"        root='{'B' * 30}',",
    ]
