"""Texts that are too long, or that expand to too much, are refused at once with their file and line."""

import time
from pathlib import Path

import pytest

from footplate import Config
from footplate.config.formats import read_data
from footplate.errors import ArgumentError, ConfigError, ConfigKeyError, ConfigSyntaxError, Origin

_MOST_SECONDS = 3.0  # of the processor; minutes without the bounds


def _doubled(first: str, pattern: str, count: int) -> str:
    """Returns lines of which each refers ten times to the one before."""
    lines = [pattern.format(this=f"a{i}", before=", ".join([f"*a{i - 1}"] * 10)) for i in range(1, count)]
    return "\n".join([f"a0: &a0 {first}", *lines])


_MANY = "\n".join(f"a{i}: &a{i} {{k{i}: 1, j{i}: 1}}" for i in range(300))
_ALL = ", ".join(f"*a{i}" for i in range(300))
TEXTS = {
    "aliases": (".yaml", _doubled("[x]", "{this}: &{this} [{before}]", 12), 1),
    "ordered aliases": (".yaml", _doubled("1", "{this}: &{this} !!pairs [k: [{before}]]", 12), 2),
    "ordered mappings": (".yaml", "a: 1\nb: !!omap [k: 1]", 2),
    "merges of many keys": (".yaml", _MANY + "".join(f"\nb{i}: {{<<: [{_ALL}]}}" for i in range(300)), 92),
    "a merge of a number": (".yaml", "a:\n  <<: 1", 2),
    "a number of many parts": (".yaml", "b: 2\na: 1" + ":1" * 500_000, 2),
    "a fraction of many parts": (".yaml", "a: 1" + ":1" * 700 + ".5", 1),
    "directives": (".yaml", "".join(f"%TAG !a{i}! tag:x\n" for i in range(50_000)) + "---\na: 1\n", 1),
    "nested dashes": (".yaml", "a:\n" + ("- " * 150 + "1\n") * 3000, 671),
    "deep yaml": (".yaml", "a: 1\nb: " + "[" * 90_000, 2),
    "deep json": (".json", '{"a": ' + "[" * 90_000, 1),
    "deep toml": (".toml", "a = " + "[" * 90_000, 1),
    "deep keys": (".toml", "x = 1\na" + ".a" * 500_000 + " = 1", 2),
    "deep tables": (".toml", "x = 1\n" + ("[" + "a." * 150 + "b]\n") * 3000, 668),
    "a long yaml": (".yaml", "a: [" + "1," * 400_000 + "1]", 1),
    "a long json": (".json", '{"a": [' + "[]," * 300_000 + "[]]}", 1),
    "a long toml": (".toml", "[[a]]\n" * 150_000, 1),
    "a lone backslash in json": (".json", '"__footplate_base_' + '"\\' * 16_000, 1),
    "a lone backslash in toml": (".toml", "x = __footplate_base_0__ " + '\\"""a"' * 16_000 + "\\", 1),
    "many letters": (".json", '{"a": "' + "x" * 2_000_000 + '"}', 1),
}


@pytest.mark.parametrize("name", TEXTS)
def test_long_text_is_refused_quickly(name: str) -> None:
    suffix, text, line = TEXTS[name]
    begun = time.process_time()
    with pytest.raises(ConfigSyntaxError) as caught:
        read_data(text, f"main{suffix}", suffix)
    assert time.process_time() - begun < _MOST_SECONDS
    assert caught.value.origin == Origin(f"main{suffix}", line)


@pytest.mark.parametrize("tag", ["", "!!set "])
def test_nested_merges_of_the_same_keys_are_read_quickly(tag: str) -> None:
    text = _doubled(f"{tag}{{x: null}}", f"{{this}}: &{{this}} {tag}{{{{<<: [{{before}}]}}}}", 12)
    begun = time.process_time()
    found = read_data(text, "main.yaml", ".yaml")
    assert time.process_time() - begun < _MOST_SECONDS
    assert found["a11"] == ({"x"} if tag else {"x": None})


def test_precedence_of_merged_mappings() -> None:
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {<<: [*a, *b], x: 3}\nd: {<<: *a, <<: *b}\n"
    found = read_data(text, "main.yaml", ".yaml")
    assert found["c"] == {"x": 3, "y": 1, "z": 2}
    assert found["d"] == {"x": 1, "y": 2, "z": 2}


def test_too_many_bases_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a0.yaml").write_text("")
    for number in range(1, 25):
        (tmp_path / f"a{number}.yaml").write_text(f"_base_: [./a{number - 1}.yaml, ./a{number - 1}.yaml]")
    with pytest.raises(ConfigError, match="inherits from more than 1000 files"):
        Config.fromfile(tmp_path / "a24.yaml")


DIGITS = "9" * 5000
LONG_INTEGERS = {
    "config.toml": f"a = 1\n[model]\nwidth = {DIGITS}\n",
    "config.yaml": f"a: 1\nmodel:\n  width: {DIGITS}\n",
    "config.json": f'{{"a": 1,\n"model": {{\n"width": {DIGITS}}}}}\n',
    "config.py": f"a = 1\nmodel = dict(\n    width={DIGITS})\n",
}
IN_HEX = {
    name: text.replace(DIGITS, "0x" + "f" * 5000) for name, text in LONG_INTEGERS.items() if name != "config.json"
}


@pytest.mark.parametrize("name", LONG_INTEGERS)
def test_long_integers_are_refused_with_their_line(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(LONG_INTEGERS[name])
    with pytest.raises(ConfigError, match=r"a number is too long|Exceeds the limit") as caught:
        Config.fromfile(tmp_path / name)
    assert caught.value.origin is not None
    assert caught.value.origin.line == 3
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("name", [*IN_HEX, "power.py"])
def test_integers_that_python_cannot_print_are_refused(tmp_path: Path, name: str) -> None:
    text = IN_HEX.get(name, "a = 1\nmodel = dict(\n    width=10**5000)\n")
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match="an integer has too many digits") as caught:
        Config.fromfile(tmp_path / name)
    assert caught.value.origin is not None
    assert (caught.value.origin.line, caught.value.key) == (3, "model.width")


def test_long_integer_below_a_key_with_a_dot_is_reported_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text("a = {'x.y': dict(z=1,\n    w=1 << 200_000)}\n")
    with pytest.raises(ConfigError, match="an integer has too many digits") as caught:
        Config.fromfile(tmp_path / "config.py")
    assert caught.value.origin is not None
    assert (caught.value.origin.line, caught.value.key) == (2, "a.'x.y'.w")


def test_error_shows_value_without_text() -> None:
    assert "found: a int that cannot be shown: ValueError" in str(ArgumentError("wrong", found=10**5000))


@pytest.mark.parametrize("name", ["child.py", "child.yaml", "child.toml", "child.json"])
@pytest.mark.parametrize("reference", ["__class__", "model.__class__", "__len__"])
def test_reference_to_a_python_attribute_is_refused(tmp_path: Path, name: str, reference: str) -> None:
    (tmp_path / "base.py").write_text("model = dict(width=1)\n")
    (tmp_path / "base.json").write_text('{"model": {"width": 1}}')
    texts = {
        ".py": "_base_ = './base.py'\nfound = {{ _base_.NAME }}\n",
        ".yaml": "_base_: ./base.json\nfound: '{{ _base_.NAME }}'\n",
        ".toml": "_base_ = './base.json'\nfound = '{{ _base_.NAME }}'\n",
        ".json": '{"_base_": "./base.json",\n"found": "{{ _base_.NAME }}"}\n',
    }
    (tmp_path / name).write_text(texts[Path(name).suffix].replace("NAME", reference))
    with pytest.raises(ConfigKeyError, match=f"the base has no key '{reference}'") as caught:
        Config.fromfile(tmp_path / name)
    assert caught.value.origin is not None
    assert caught.value.origin.line == 2
