import ast

import pytest

from footplate.config.tracer import MAKE_DICT, Tracer


def marked(text: str) -> tuple[str, Tracer]:
    tree, tracer = ast.parse(text), Tracer("main.py")
    tracer.mark(tree)
    return ast.unparse(tree), tracer


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a = dict(b=1)", f"a = {MAKE_DICT}(0, (), b=1)"),
        ("a = {'b': dict()}", f"a = {MAKE_DICT}(1, (), {{'b': {MAKE_DICT}(0, ())}})"),
        ("a = {k: 1 for k in x}", f"a = {MAKE_DICT}(0, (), {{k: 1 for k in x}})"),
        ("a = f(dict(**b), c=[{}])", f"a = f({MAKE_DICT}(1, (b,), **b), c=[{MAKE_DICT}(0, (), {{}})])"),
        ("a = {**b.c[0], **f(b)}", f"a = {MAKE_DICT}(0, (b.c[0],), {{**b.c[0], **f(b)}})"),
        ("a = dict.fromkeys('x')", "a = dict.fromkeys('x')"),
        ("def f():\n    return dict(a=1)", f"def f():\n    return {MAKE_DICT}(0, (), a=1)"),
    ],
)
def test_dicts_become_calls(text: str, code: str) -> None:
    assert marked(text)[0] == code


def test_sites_hold_the_line_of_each_key() -> None:
    _, tracer = marked("a = dict(\n    b=1,\n    c=dict(d=2),\n)\ne = {\n    'f': 1, 2: 3, **x}\n")
    lines = [{key: origin.line for key, origin in site.items()} for site in tracer.sites]
    assert lines == [{None: 3, "d": 3}, {None: 1, "b": 2, "c": 3}, {None: 5, "f": 6, 2: 6}]


def test_reads_are_the_names_and_the_keys_of_the_base() -> None:
    _, tracer = marked("a = b + _base_.c.d\ne = _base_['f']\ng = [h for h in i]\nj.k = 1\n")
    assert tracer.reads == {"b", "_base_", "c", "f", "h", "i", "j"}
