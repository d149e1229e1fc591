from collections.abc import Callable
from typing import Any

import pytest

from footplate.cli.main import main
from tests.footplate.distributed.processes import on_processes
from tests.support import TINY

OnRanks = Callable[..., list[Any]]


def for_each(function: Callable[..., Any], cases: list[tuple[Any, ...]]) -> list[Any]:
    """Calls a function for several cases, so that one start of the ranks serves all of them."""
    return [function(*case) for case in cases]


@pytest.fixture(autouse=True, scope="session")
def _warm(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Imports what a run needs, so that forked processes start at once."""
    folder = tmp_path_factory.mktemp("warm")
    (folder / "tiny.py").write_text(TINY)
    assert main(["train", str(folder / "tiny.py"), "--work-dir", str(folder / "work")]) == 0


@pytest.fixture
def on_ranks() -> OnRanks:
    """Calls a function on several ranks in processes of their own and returns their results."""
    return on_processes
