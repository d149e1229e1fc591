import os
from pathlib import Path

import pytest

from footplate.config import Config
from footplate.errors import ConfigError, ConfigSyntaxError, Origin


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nope.py", "no config file"),
        ("folder.py", "is a folder, not a file"),
        ("pipe.py", "is no regular file"),
        ("large.py", "is too large: 100 MB, and the most is 16 MB"),
        ("main.ini", "is no config: configs end in .py, .json, .yaml, .yml, .toml"),
        ("main", "is no config: configs end in"),
        ("nope\0.py", "no config file"),
        ("x" * 5000 + ".py", "no config file"),
    ],
)
def test_what_is_no_config_file_is_refused_at_once(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "main.ini").touch()
    (tmp_path / "main").touch()
    os.mkfifo(tmp_path / "pipe.py")
    with (tmp_path / "large.py").open("wb") as file:
        file.truncate(100 * 2**20)
    with pytest.raises(ConfigError) as caught:
        Config.fromfile(os.path.join(tmp_path, name))
    assert message in caught.value.message


def test_missing_file_suggests_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "faster_rcnn.py").write_text("")
    with pytest.raises(ConfigError, match="no config file") as caught:
        Config.fromfile(tmp_path / "faster_rccn.py")
    assert caught.value.suggestion == str(tmp_path / "faster_rcnn.py")


def test_text_is_utf8(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes("\ufeffa = 'ü'\r\nb = 1\r\n".encode())
    assert Config.fromfile(tmp_path / "a.py").to_dict() == {"a": "ü", "b": 1}
    (tmp_path / "b.py").write_bytes(b"a = 1\nb = '\xff'\n")
    with pytest.raises(ConfigSyntaxError, match="text in UTF-8, which byte 11 is not") as caught:
        Config.fromfile(tmp_path / "b.py")
    assert caught.value.origin == Origin(str(tmp_path / "b.py"), 2)


def test_home_folder_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.py").write_text("a = 1\n")
    assert Config.fromfile("~/a.py").a == 1
