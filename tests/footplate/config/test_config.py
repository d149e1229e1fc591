from pathlib import Path

import pytest

from footplate.config import Config, ConfigDict
from footplate.error_context import origin_of
from footplate.errors import ConfigError, ConfigKeyError, Origin
from tests.footplate.config.conftest import Write


def test_config_is_used_like_a_mapping() -> None:
    cfg = Config(dict(a=dict(b=1), c=[dict(d=2)]))
    assert (cfg.a.b, cfg["c"][0].d, cfg.get("x", 3)) == (1, 2, 3)
    assert (list(cfg), len(cfg), "a" in cfg, list(cfg.keys())) == (["a", "c"], 2, True, ["a", "c"])
    cfg.e = dict(f=1)
    cfg["g"] = 2
    assert cfg["e"].f == 1
    del cfg.e
    del cfg["g"]
    assert cfg.pop("c") == [{"d": 2}]
    assert cfg.to_dict() == {"a": {"b": 1}}
    assert isinstance(cfg._cfg_dict, ConfigDict)
    assert repr(cfg) == "Config (path: None): {'a': {'b': 1}}"


@pytest.mark.parametrize("key", ["filename", "text", "pretty_text", "env_variables"])
def test_reserved_keys_are_refused(write: Write, key: str) -> None:
    main = write({"main.py": f"a = dict({key}=1)\n{key} = 1\n"})
    with pytest.raises(ConfigKeyError, match=f"'{key}' is a reserved name") as caught:
        Config.fromfile(main)
    assert caught.value.origin == Origin(str(main), 2)


def test_diff_shows_lines_that_differ() -> None:
    text = Config.diff(Config(dict(a=1, b=2)), Config(dict(a=1, b=3)))
    assert text.splitlines() == ["--- ", "+++ ", "@@ -1,3 +1,3 @@", " a = 1", "-b = 2", "+b = 3", " "]
    assert Config.diff(Config(dict(a=1)), Config(dict(a=1))) == ""


def test_dump_writes_the_format_of_the_suffix(tmp_path: Path) -> None:
    cfg = Config(dict(a=dict(b=[1, (2.5, None)]), c="x"))
    for name in ("out.py", "out.yaml"):
        assert cfg.dump(tmp_path / name) is None
        assert Config.fromfile(tmp_path / name).to_dict() == cfg.to_dict()
    assert cfg.dump() == cfg.pretty_text == "a = dict(b=[1, (2.5, None)])\nc = 'x'\n"
    with pytest.raises(ConfigError, match="suffix"):
        cfg.dump(tmp_path / "out.txt")


def test_values_set_from_python_have_the_place_of_the_statement() -> None:
    cfg = Config(dict(a=dict(b=1)))
    cfg.x = 1
    cfg["y"] = 1
    cfg.merge_from_dict({"a.b": 2})
    for origin in (origin_of(cfg, "x"), origin_of(cfg, "y"), origin_of(cfg.a, "b")):
        assert origin is not None
        assert Path(origin.file).name == "test_config.py"
