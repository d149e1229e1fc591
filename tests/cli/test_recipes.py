from collections.abc import Callable
from pathlib import Path

from footplate.tasks.recipes import recipes


def test_recipes_are_listed_with_their_files(footplate: Callable[..., tuple[int, str, str]]) -> None:
    code, said, errors = footplate("recipes")
    assert (code, errors) == (0, "")
    lines = said.splitlines()
    assert [line.split(maxsplit=1) for line in lines[0::2]] == [[each.name, each.summary] for each in recipes()]
    assert all(Path(line.strip()).is_file() for line in lines[1::2])
    assert "fashion-seg" in {each.name for each in recipes()}
