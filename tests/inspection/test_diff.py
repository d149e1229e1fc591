import os
from pathlib import Path
from typing import Any

import pytest

from footplate.config import Config, LazyObject
from footplate.errors import ConfigError
from footplate.inspection.diff import compare, describe, locate, same


@pytest.mark.parametrize(
    ("first", "second", "differences"),
    [
        (dict(a=1, b=2), dict(b=2, a=1), []),
        (dict(a=(1, [2])), dict(a=[1.0, (2,)]), []),
        (dict(a=LazyObject("x.Y")), dict(a="x.Y"), []),
        (dict(a=float("nan")), dict(a=float("nan")), []),
        (dict(a=1), dict(a=True), [("a", 1, True)]),
        (dict(a=dict(b=1)), dict(a=dict(b=2, c=3)), [("a.b", 1, 2), ("a.c", None, 3)]),
        (dict(a=1), dict(), [("a", 1, None)]),
        (dict(a=[1, 2]), dict(a=[1, 3]), [("a", [1, 2], [1, 3])]),
        (dict(a=dict(b=1)), dict(a=1), [("a", {"b": 1}, 1)]),
        (
            dict(p=[dict(type="A", x=1), dict(type="C")]),
            dict(p=[dict(type="A", x=2), dict(type="B"), dict(type="C")]),
            [("p[0].x", 1, 2), ("p[1]", None, {"type": "B"})],
        ),
        (dict(p=[dict(type="A"), 1]), dict(p=[dict(type="B"), 1]), [("p[0]", {"type": "A"}, {"type": "B"})]),
        ({"k": {"a.b": 1}}, {"k": {"a.b": 2}}, [("k.'a.b'", 1, 2)]),
    ],
)
def test_configs_are_compared_by_meaning(
    first: dict[str, Any], second: dict[str, Any], differences: list[tuple[str, Any, Any]]
) -> None:
    found = compare(Config(first), Config(second))
    assert [(path, one and one.value, two and two.value) for path, one, two in found] == differences


@pytest.mark.parametrize(("first", "second"), [({"a": 1}, {"b": 1}), ([1], [1, 2]), (1, "1"), (None, False)])
def test_values_that_differ(first: Any, second: Any) -> None:
    assert not same(first, second)


def test_differences_show_both_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.py").write_text("model = dict(depth=50,\n    name='x')\n")
    Path("b.py").write_text("_base_ = 'a.py'\nmodel = dict(depth=101)\n\nextra = [dict(type='A')]\n")
    text = describe(compare(Config.fromfile("a.py"), Config.fromfile("b.py")))
    assert text == "model.depth\n  - 50   a.py:1\n  + 101  b.py:2\nextra\n  + [dict(type='A')]  b.py:4\n"


def test_a_work_dir_stands_for_its_newest_config(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no config of a run"):
        locate(str(tmp_path))
    for name in ("2024_01", "2024_02"):
        (tmp_path / name / "vis_data").mkdir(parents=True)
        (tmp_path / name / "vis_data" / "config.py").write_text("a = 1\n")
    assert locate(str(tmp_path)) == str(tmp_path / "2024_02" / "vis_data" / "config.py")
    assert locate(str(tmp_path / "2024_01")) == str(tmp_path / "2024_01" / "vis_data" / "config.py")
    older, newer = tmp_path / "old" / "b.py", tmp_path / "old" / "a.py"
    older.parent.mkdir()
    for age, path in enumerate((newer, older)):
        path.write_text("")
        os.utime(path, (100 - age, 100 - age))
    assert locate(str(older.parent)) == str(newer)


def test_files_packages_and_recipes_are_found_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("")
    assert locate(str(tmp_path / "a.py")) == str(tmp_path / "a.py")
    assert locate("package::a.py") == "package::a.py"
    assert locate("fashion-seg").endswith("fashion-seg.py")
    with pytest.raises(ConfigError, match="no config file or recipe 'fashion-sex'"):
        locate("fashion-sex")


def test_the_scope_that_a_base_in_a_package_marks_is_no_difference(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("_base_ = 'footplate::fashion-seg.py'\ntrain_cfg = dict(max_iters=3)\n")
    found = compare(Config.fromfile(tmp_path / "mine.py"), Config.fromfile(locate("fashion-seg")))
    assert [each.path for each in found] == ["train_cfg.max_iters"]
