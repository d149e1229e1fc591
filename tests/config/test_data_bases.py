"""A config that is data inherits from data, so that reading it executes nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from footplate import Config
from footplate.cli.main import main
from footplate.errors import ConfigError

FORMS = {
    ".yaml": "_base_: {base}\na: 1\n",
    ".json": '{{"_base_": "{base}", "a": 1}}',
    ".toml": '_base_ = "{base}"\na = 1\n',
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
        with pytest.raises(ConfigError, match=r"inherits only from data, and '.*evil.*' is a Python config"):
            Config.fromfile(path)
    else:
        assert READERS[reader](str(path)) == 2
        assert "inherits only from data" in capsys.readouterr().err
    assert not (tmp_path / "mark").exists()


def test_a_recipe_that_ships_is_a_base(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"config{suffix}"
    path.write_text(FORMS[suffix].format(base="footplate::fashion-seg.py"))
    cfg = Config.fromfile(path)
    assert (cfg.a, cfg.model.type) == (1, "SmallSegmentor")


@pytest.mark.parametrize("command", [["explain"], ["explain", "KEY"], ["diff"]])
def test_looking_at_a_config_imports_nothing(
    tmp_path: Path, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_module.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w').close()\n")
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "config.yaml"
    path.write_text("custom_imports: {imports: [my_module]}\ndefault_scope: my_module\nmodel: {type: my_module.Net}\n")
    first, *rest = command
    main([first, str(path), *(["model.type"] if rest else [str(path)] if first == "diff" else [])])
    assert not (tmp_path / "mark").exists()
