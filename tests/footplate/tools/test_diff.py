import os
from pathlib import Path
from typing import Any

import pytest

from footplate.config import Config, LazyObject
from footplate.errors import ConfigError
from footplate.tools.diff import compare, read_either


@pytest.mark.parametrize(
    ("first", "second", "differences"),
    [
        (dict(a=1, b=2), dict(b=2, a=1), []),
        (dict(a=(1, [2])), dict(a=[1.0, (2,)]), []),
        (dict(a=LazyObject("x.Y")), dict(a="x.Y"), []),
        (dict(a=dict(b=1)), dict(a=dict(b=2, c=3)), [("a.b", 1, 2), ("a.c", None, 3)]),
        (dict(a=[1, 2]), dict(a=[1, 3]), [("a", [1, 2], [1, 3])]),
        (
            dict(p=[dict(type="A", x=1), dict(type="C")]),
            dict(p=[dict(type="A", x=2), dict(type="B"), dict(type="C")]),
            [("p[0].x", 1, 2), ("p[1]", None, {"type": "B"})],
        ),
        ({"k": {"a.b": 1}}, {"k": {"a.b": 2}}, [("k.'a.b'", 1, 2)]),
    ],
)
def test_configs_are_compared_by_meaning(
    first: dict[str, Any], second: dict[str, Any], differences: list[tuple[str, Any, Any]]
) -> None:
    found = compare(Config(first), Config(second))
    assert [(path, one and one.value, two and two.value) for path, one, two in found] == differences


def test_newest_config_of_a_work_dir_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="contains no run config"):
        read_either(str(tmp_path))
    for number, name in enumerate(("2024_01", "2024_02")):
        (tmp_path / name / "vis_data").mkdir(parents=True)
        (tmp_path / name / "vis_data" / "config.py").write_text(f"a = {number}\n")
    assert read_either(str(tmp_path)).a == 1
    assert read_either(str(tmp_path / "2024_01")).a == 0
    older, newer = tmp_path / "old" / "b.py", tmp_path / "old" / "a.py"
    older.parent.mkdir()
    for age, path in enumerate((newer, older)):
        path.write_text(f"a = 'age {age}'\n")
        os.utime(path, (100 - age, 100 - age))
    assert read_either(str(older.parent)).a == "age 0"
