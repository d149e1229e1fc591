"""Integers of more digits than Python turns into text."""

from pathlib import Path

import pytest

from footplate import Config
from footplate.errors import ArgumentError, ConfigError, ConfigKeyError

DIGITS = "9" * 5000
TEXTS = {
    "config.toml": f"a = 1\n[model]\nwidth = {DIGITS}\n",
    "config.yaml": f"a: 1\nmodel:\n  width: {DIGITS}\n",
    "config.json": f'{{"a": 1,\n"model": {{\n"width": {DIGITS}}}}}\n',
    "config.py": f"a = 1\nmodel = dict(\n    width={DIGITS})\n",
}
IN_HEX = {name: text.replace(DIGITS, "0x" + "f" * 5000) for name, text in TEXTS.items() if name != "config.json"}


@pytest.mark.parametrize("name", TEXTS)
def test_they_are_refused_with_their_line(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(TEXTS[name])
    with pytest.raises(ConfigError, match=r"a number is too long|Exceeds the limit") as caught:
        Config.fromfile(tmp_path / name)
    assert caught.value.origin is not None
    assert caught.value.origin.line == 3
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("name", [*IN_HEX, "power.py"])
def test_what_python_reads_but_cannot_write_is_refused_too(tmp_path: Path, name: str) -> None:
    text = IN_HEX.get(name, "a = 1\nmodel = dict(\n    width=10**5000)\n")
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match="an integer has too many digits") as caught:
        Config.fromfile(tmp_path / name)
    assert caught.value.origin is not None
    assert (caught.value.origin.line, caught.value.key) == (3, "model.width")


def test_an_error_shows_what_has_no_text() -> None:
    assert "found: a int that cannot be shown: ValueError" in str(ArgumentError("wrong", found=10**5000))


@pytest.mark.parametrize("name", ["child.py", "child.yaml", "child.toml", "child.json"])
@pytest.mark.parametrize("reference", ["__class__", "model.__class__", "__len__"])
def test_a_reference_to_a_name_of_pythons_own(tmp_path: Path, name: str, reference: str) -> None:
    (tmp_path / "base.py").write_text("model = dict(width=1)\n")
    (tmp_path / "base.json").write_text('{"model": {"width": 1}}')
    texts = {
        ".py": "_base_ = './base.py'\nfound = {{ _base_.NAME }}\n",
        ".yaml": "_base_: ./base.json\nfound: '{{ _base_.NAME }}'\n",
        ".toml": "_base_ = './base.json'\nfound = '{{ _base_.NAME }}'\n",
        ".json": '{"_base_": "./base.json",\n"found": "{{ _base_.NAME }}"}\n',
    }
    (tmp_path / name).write_text(texts[Path(name).suffix].replace("NAME", reference))
    with pytest.raises(ConfigKeyError, match=f"the base has no '{reference}'") as caught:
        Config.fromfile(tmp_path / name)
    assert caught.value.origin is not None
    assert caught.value.origin.line == 2
