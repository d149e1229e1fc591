import copy
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from footplate.config import Config, KeyOrigin
from footplate.config.origins import Replaced, value_history
from footplate.error_context import origin_at
from footplate.errors import Origin


def test_key_origin_equals_a_plain_origin_and_can_be_copied() -> None:
    origin = KeyOrigin("a.py", 3, Replaced(1, Origin("b.py", 2)))
    assert origin == Origin("a.py", 3)
    for other in (copy.deepcopy(origin), pickle.loads(pickle.dumps(origin))):
        assert other == origin
        assert other.replaced == (1, Origin("b.py", 2))


def test_loop_that_sets_a_key_adds_one_value_to_the_history() -> None:
    origin = KeyOrigin("a.py", 1)
    for value in range(1000):
        origin = KeyOrigin("a.py", 2, Replaced(value, origin))
    assert [link.value for link in value_history(1000, origin)] == [0, 1000]


def test_files_below_the_current_folder_are_shown_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert str(KeyOrigin(str(tmp_path / "configs/a.py"), 3)) == "configs/a.py:3"
    assert str(KeyOrigin(str(tmp_path.parent / "a.py"), 3)) == f"{tmp_path.parent / 'a.py'}:3"
    assert str(KeyOrigin("--set", 0)) == "--set"


SPREAD = """common = dict(
    type="A",
    metainfo=dict(
        classes=("a", "b"),
    ),
)
first = dict(
    size=1,
    **common,
)
second = {
    "type": "B",
    **first,
    "size": 2,
    **dict(
        last=3,
    ),
}
third = dict(
    part=dict(**_base_.head),
)
"""


@pytest.mark.parametrize(
    ("key", "file", "line"),
    [
        ("first.size", "main.py", 8),
        ("first.type", "main.py", 2),
        ("first.metainfo", "main.py", 3),
        ("first.metainfo.classes", "main.py", 4),
        ("second.type", "main.py", 2),
        ("second.size", "main.py", 14),
        ("second.last", "main.py", 11),
        ("third.part.depth", "base.py", 3),
    ],
)
def test_unpacked_key_keeps_its_line(
    write: Callable[[Mapping[str, str]], Path], key: str, file: str, line: int
) -> None:
    base = "head = dict(\n    type='H',\n    depth=3,\n)\n"
    path = write({"main.py": f"{SPREAD}_base_ = 'base.py'\n", "base.py": base})
    assert origin_at(Config.fromfile(str(path)), key) == Origin(str(path.parent / file), line)
