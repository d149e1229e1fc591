from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from footplate.cli.main import main
from footplate.config import Config
from footplate.config.config_dict import is_variable, value_history
from footplate.error_context import origin_of
from footplate.errors import ConfigError, ConfigKeyError, Origin
from tests.footplate.config.conftest import Write

BASE = "a = dict(b=1, c=dict(d=2), l=[dict(x=1), dict(x=2)])\nn = dict(q=1)\np = [dict(n=n)]\ns = 'text'\n"
RESOLVED: dict[str, Any] = {
    "a": {"b": 1, "c": {"d": 2}, "l": [{"x": 1}, {"x": 2}]},
    "n": {"q": 1},
    "p": [{"n": {"q": 1}}],
    "s": "text",
}


def load_child(write: Write, text: str, base: str = BASE) -> Config:
    return Config.fromfile(write({"main.py": "_base_ = './base.py'\n" + text, "base.py": base}))


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("", {}),
        ("a = dict(b=5)", {"a": {**RESOLVED["a"], "b": 5}}),
        ("a = dict(c=dict(e=3))", {"a": {**RESOLVED["a"], "c": {"d": 2, "e": 3}}}),
        ("a = dict(_delete_=True, z=1)", {"a": {"z": 1}}),
        ("a = dict(_delete_=False, b=3)", {"a": {**RESOLVED["a"], "b": 3}}),
        ("s = dict(_delete_=True, z=1)", {"s": {"z": 1}}),
        ("a = dict(l=[dict(_delete_=True, r=1)])", {"a": {**RESOLVED["a"], "l": [{"_delete_": True, "r": 1}]}}),
        ("new = dict(_delete_=True, z=1)", {"new": {"_delete_": True, "z": 1}}),
    ],
)
def test_child_merges_into_its_base(write: Write, text: str, changed: dict[str, Any]) -> None:
    assert load_child(write, text).to_dict() == {**RESOLVED, **changed}


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("_base_.a.b = 5", {"a": {**RESOLVED["a"], "b": 5}}),
        ("k = _base_.n\nk.q = 7", {"n": {"q": 7}, "k": {"q": 7}}),
        ("_base_.pop('a')", {"a": None}),
        ("a = _base_.a\na.pop('c')\na.b = 9", {"a": {"b": 9, "l": [{"x": 1}, {"x": 2}]}}),
        ("q = dict(x=1)\n_base_.n = q\nq['x'] = 2", {"n": {"x": 1}, "q": {"x": 2}}),
        ("_base_.k = _base_.n\n_base_.n.q = 2", {"n": {"q": 2}, "k": {"q": 2}}),
        ("_base_.a.merge(dict(c=dict(_delete_=True, e=1)))", {"a": {**RESOLVED["a"], "c": {"e": 1}}}),
        ("k = _base_.a.copy()\nk.l.append(1)\nk.c.d = 7\nk = 0", {"a": {**RESOLVED["a"], "c": {"d": 7}}, "k": 0}),
    ],
)
def test_config_reads_and_changes_its_base(write: Write, text: str, changed: dict[str, Any]) -> None:
    expected = {key: value for key, value in {**RESOLVED, **changed}.items() if value is not None}
    assert load_child(write, text).to_dict() == expected


def test_paths_of_bases_are_joined_from_variables(write: Write) -> None:
    text = "root = 'bases/'\nname = f'{root}model'\n_base_ = [f'{name}.py', root + 'data.py']\n"
    main = write({"main.py": text, "bases/model.py": "depth = 18\n", "bases/data.py": "size = 2\n"})
    assert Config.fromfile(main).to_dict() == {"depth": 18, "size": 2, "root": "bases/", "name": "bases/model"}


def test_base_without_suffix_is_found(write: Write) -> None:
    assert Config.fromfile(write({"main.py": "_base_ = './base'\n", "base.py": "x = 1\n"})).x == 1


def test_key_defined_by_two_bases_is_refused_with_both_origins(write: Write) -> None:
    main = write({"main.py": "_base_ = ['b1.py', 'b2.py']\n", "b1.py": "x = 1\na = 1\n", "b2.py": "a = 1\n"})
    with pytest.raises(ConfigKeyError, match="define the key 'a'") as caught:
        Config.fromfile(main)
    assert caught.value.origin == Origin(str(main.with_name("b2.py")), 1)
    assert str(main.with_name("b1.py")) + ":2" in caught.value.notes[0]


def test_circular_bases_are_reported_in_order(write: Write) -> None:
    main = write({"a.py": "_base_ = 'b.py'\n", "b.py": "x = 1\n_base_ = 'a.py'\n"})
    with pytest.raises(ConfigError, match=r"circular inheritance: .*a\.py -> .*b\.py -> .*a\.py") as caught:
        Config.fromfile(main)
    assert caught.value.origin == Origin(str(main.with_name("b.py")), 2)


def test_read_variables_are_marked(write: Write) -> None:
    cfg = load_child(write, "max_iter = 3\nt = max_iter\nu = _base_.n\n", BASE + "m = 1\n")
    assert {key for key in cfg if is_variable(cfg, key)} == {"max_iter", "n"}


FORMS = {
    ".yaml": "_base_: {base}\na: 1\n",
    ".json": '{{"_base_": "{base}", "a": 1}}',
}
READERS: dict[str, Callable[[str], Any]] = {
    "fromfile": Config.fromfile,
    "explain": lambda path: main(["explain", path]),
    "explain a key": lambda path: main(["explain", path, "a"]),
    "diff": lambda path: main(["diff", path, path]),
    "check": lambda path: main(["check", path]),
    "train": lambda path: main(["train", path]),
}


@pytest.fixture(params=FORMS)
def suffix(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("base", ["evil.py", "evil", "package::evil.py", "between.yaml"])
def test_no_base_is_executed(
    tmp_path: Path,
    suffix: str,
    reader: str,
    base: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = f"open({str(tmp_path / 'mark')!r}, 'w').close()\n"
    (tmp_path / "evil.py").write_text(code)
    (tmp_path / "package" / "configs").mkdir(parents=True)
    (tmp_path / "package" / "__init__.py").write_text(code)
    (tmp_path / "package" / "configs" / "evil.py").write_text(code)
    (tmp_path / "between.yaml").write_text("_base_: evil.py\n")
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / f"config{suffix}"
    path.write_text(FORMS[suffix].format(base=base))
    if reader == "fromfile":
        with pytest.raises(ConfigError, match=r"cannot inherit from the Python config '.*evil.*'"):
            Config.fromfile(path)
    else:
        assert READERS[reader](str(path)) == 2
        assert "cannot inherit from the Python config" in capsys.readouterr().err
    assert not (tmp_path / "mark").exists()


def test_data_config_may_inherit_from_a_recipe(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"config{suffix}"
    path.write_text(FORMS[suffix].format(base="footplate::fashion-seg.py"))
    cfg = Config.fromfile(path)
    assert (cfg.a, cfg.model.type) == (1, "SmallSegmentor")


@pytest.mark.parametrize("command", [["explain"], ["explain", "KEY"], ["diff"]])
def test_inspecting_a_config_imports_nothing(current_folder: Path, command: list[str]) -> None:
    (current_folder / "my_module.py").write_text(f"open({str(current_folder / 'mark')!r}, 'w').close()\n")
    path = current_folder / "config.yaml"
    path.write_text("custom_imports: {imports: [my_module]}\ndefault_scope: my_module\nmodel: {type: my_module.Net}\n")
    first, *rest = command
    main([first, str(path), *(["model.type"] if rest else [str(path)] if first == "diff" else [])])
    assert not (current_folder / "mark").exists()


def test_assignments_record_their_lines_and_the_replaced_values(write: Write) -> None:
    cfg = Config.fromfile(write({"main.py": "a = 1\nb = 2\na = 3\n"}))
    history = [(past.value, past.origin and past.origin.line) for past in value_history(3, origin_of(cfg, "a"))]
    assert history == [(1, 1), (3, 3)]


def test_local_dicts_have_no_attributes_while_the_config_runs(write: Write) -> None:
    with pytest.raises(ConfigError, match="'TracedDict' object has no attribute 'b'"):
        Config.fromfile(write({"main.py": "a = dict(b=1)\nc = a.b\n"}))
