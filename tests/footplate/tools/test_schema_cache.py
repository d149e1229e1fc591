"""The cache of the schema of configs."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from footplate.tools import schema_cache
from footplate.tools.config_schema import config_schema
from footplate.tools.schema_cache import read_schema


def test_the_schema_is_made_again_only_if_the_sources_or_versions_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "footplate" / "__init__.py"
    source.parent.mkdir()
    source.write_text("")
    package = SimpleNamespace(__file__=str(source), __version__="1")
    monkeypatch.setattr(schema_cache, "footplate", package)
    monkeypatch.setenv("HOME", str(tmp_path))
    cache = tmp_path / ".cache" / "footplate" / "config_schema.json"
    expected = json.loads(json.dumps(config_schema()))

    def is_made_again() -> bool:
        cache.write_text(json.dumps({**json.loads(cache.read_text()), "title": "cached"}))
        return bool(read_schema()["title"] == expected["title"])

    made = read_schema()
    assert json.loads(cache.read_text()) == made
    assert made.pop("$comment").startswith("footplate 1, torch ")
    assert made == expected
    assert not is_made_again()
    source.write_text("# changed")
    assert is_made_again()
    (tmp_path / "footplate_vision").mkdir()
    assert not is_made_again()
    (tmp_path / "footplate_vision" / "new.py").write_text("new = 1")
    assert is_made_again()
    package.__version__ = "2"
    assert is_made_again()
    monkeypatch.setattr(schema_cache, "version", lambda name: "9.9")
    assert is_made_again()
    for damaged in ('{"$comment": ', "[]"):
        cache.write_text(damaged)
        assert read_schema()["title"] == expected["title"]


def test_the_schema_needs_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as without_home:
        without_home.setattr(Path, "expanduser", lambda path: exec("raise RuntimeError"))
        assert read_schema()["title"] == "footplate config"
    (tmp_path / ".cache").write_text("not a folder")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read_schema()["title"] == "footplate config"
