"""Random programs that set `_base_`: the files that Python's own evaluation gives are loaded, and no others."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from footplate.config import Config
from footplate.errors import ConfigError
from tests.footplate.config.conftest import Write

VARIABLES = ("a", "b", "c")
STEMS = ["".join(letters) for length in range(4) for letters in product(VARIABLES, repeat=length)]
HEAD = "import contextlib\na, b, c = 'abc'\n"

variables = st.sampled_from(VARIABLES)
values = st.recursive(
    variables | variables.map(repr),
    lambda children: st.one_of(
        st.builds("({} + {})".format, children, children),
        st.builds("f'{{{}}}{{{}}}'".format, variables, variables),
        st.builds("{}[-2:]".format, children),
        st.builds("''.join(x for x in {})".format, children),
        st.builds("(lambda x: x)({})".format, children),
    ),
    max_leaves=3,
)
simple = st.one_of(
    st.builds("{} = {}".format, variables, values),
    st.builds("{}: str = {}".format, variables, values),
    st.builds("{} += {}".format, variables, values),
    st.builds("{}, {} = {}, {}".format, variables, variables, values, values),
    st.builds("{} = {} = {}".format, variables, variables, values),
    st.builds("[{}, *_] = {} + 'a'".format, variables, values),
    st.builds("({} := {})".format, variables, values),
    st.builds("[{} := x + {} for x in 'ab']".format, variables, variables),
    st.builds("del {0}; {0} = 'b'".format, variables),
    st.builds("globals()['{}'] = {}".format, variables, values),
    st.builds("def f(): global {0}; {0} = {1}\nf()".format, variables, values),
)


def indented(text: str) -> str:
    return text.replace("\n", "\n    ")


def wrapped(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Puts a block into statements that execute it once or not at all, or that also set a variable."""
    blocks = inner.map(indented)
    return st.one_of(
        st.builds("if {} == {}:\n    {}\nelse:\n    {}".format, values, values, blocks, simple.map(indented)),
        st.builds("for {} in [{}]:\n    {}".format, variables, values, blocks),
        st.builds("for {}, {} in [({}, {})]:\n    {}".format, variables, variables, values, values, blocks),
        st.builds("while True:\n    {}\n    break".format, blocks),
        st.builds("with contextlib.nullcontext({}) as {}:\n    {}".format, values, variables, blocks),
        st.builds("try:\n    1 / 0\nexcept ZeroDivisionError:\n    {}\nfinally:\n    {}".format, blocks, blocks),
        st.builds(
            "match {}:\n    case 'a':\n        pass\n    case {}:\n        {}".format,
            values,
            variables,
            blocks.map(indented),
        ),
    )


programs = st.lists(st.recursive(simple, wrapped, max_leaves=2), max_size=5).map("\n".join)
paths = st.builds("f'n{{{}[:3]}}.py'".format, variables) | st.builds("'n' + {}[:3] + '.py'".format, values)
forms = st.sampled_from(
    [
        "_base_ = {0}",
        "_base_: str = {0}",
        "_base_ = [{0}]",
        "_base_ = ({0}, 'other.py')",
        "_base_, a = {0}, 'c'",
        "_base_ = b = {0}",
        "(_base_ := {0})",
        "for _base_ in [{0}]:\n    pass",
        "with contextlib.nullcontext({0}) as _base_:\n    pass",
        "globals()['_base_'] = {0}",
        "if a == 'a':\n    _base_ = {0}",
        "if a == 'a':\n    _base_ = {0}\nelse:\n    _base_ = 'other.py'",
        "try:\n    1 / 0\nexcept ZeroDivisionError:\n    _base_ = {0}",
        "def f(_base_): _base_ = 'nope.py'\nf(0)\n_base_ = {0}",
    ]
)
setters = st.builds(str.format, forms, paths)


@pytest.fixture
def folder(write: Write) -> Path:
    """Returns a folder with the files that the programs inherit from, each of which inherits from a shorter name."""
    write({"other.py": "other = 1\n"})
    for stem in STEMS:
        inherits = f"tail = {stem[:-1]!r}\n_base_ = f'n{{tail}}.py'\ndel tail\n" if stem else ""
        write({f"n{stem}.py": f"{inherits}n{stem} = 1\n"})
    return write({"other.py": "other = 1\n"}).parent


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(programs, setters, programs)
def test_bases_are_those_of_pythons_evaluation(folder: Path, before: str, setter: str, after: str) -> None:
    text = f"{HEAD}{before}\n{setter}\n{after}\n"
    (folder / "main.py").write_text(text)
    expected: dict[str, Any] = {}
    exec(text, expected)
    names = expected.get("_base_", ())
    loaded: set[str] = set()
    for name in [names] if isinstance(names, str) else names:
        stem = name.removesuffix(".py")
        loaded |= {"other"} if stem == "other" else {stem[: length + 1] for length in range(len(stem))}
    cfg = Config.fromfile(folder / "main.py").to_dict()
    assert {key for key in cfg if key == "other" or key.startswith("n")} == loaded, text
    assert [cfg[name] for name in VARIABLES] == [expected[name] for name in VARIABLES], text


@pytest.mark.parametrize("head", ["_base_ = '{}.py'\n", "with read_base():\n    from .{} import *\n"])
@pytest.mark.parametrize(("name", "line"), [("open", 2), ("failing", 3), ("repeating", 2)])
def test_error_in_a_base_is_reported_where_it_is(write: Write, head: str, name: str, line: int) -> None:
    main = write(
        {
            "main.py": head.format(name),
            "open.py": "x = 1\ny = (\n",
            "failing.py": "\n\nx = 1 / 0\n",
            "repeating.py": "_base_ = ['n.py',\n  'm.py']\n",
            "n.py": "\nx = 1\n",
            "m.py": "\nx = 1\n",
        }
    )
    with pytest.raises(ConfigError) as caught:
        Config.fromfile(main)
    assert caught.value.origin is not None
    file = "m.py" if name == "repeating" else f"{name}.py"
    assert caught.value.origin == (str(main.with_name(file)), line)
