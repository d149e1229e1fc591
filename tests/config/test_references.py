import ast

import pytest

from footplate.config.references import FILL_STRING, resolve_references


@pytest.mark.parametrize(
    ("text", "code", "lines"),
    [
        ("a = __footplate_base_0__", "a = __footplate_base_0__", {0: 1}),
        ("a = 1\nb = 'x __footplate_base_1__'", f"a = 1\nb = {FILL_STRING}('x __footplate_base_1__')", {1: 2}),
        ("a = f'{b}__footplate_base_0__'", f"a = f\"{{b}}{{{FILL_STRING}('__footplate_base_0__')}}\"", {0: 1}),
        ("a = 'plain'  # __footplate_base_0__", "a = 'plain'", {}),
    ],
)
def test_references_are_found_and_strings_filled(text: str, code: str, lines: dict[int, int]) -> None:
    tree = ast.parse(text)
    assert resolve_references(tree) == lines
    assert ast.unparse(tree) == code
