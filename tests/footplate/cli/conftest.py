import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from footplate.cli.main import main
from tests.modules import ROOT

FIRST_GENERATION = ROOT / "tests/footplate_vision/recipes/configs/fashion-seg-v0.py"
Command = Callable[..., tuple[int, str, str]]


def environment(**changes: str) -> dict[str, str]:
    """Returns the environment of a command in a process of its own."""
    # An empty entry would be the current folder.
    path = os.pathsep.join(filter(None, [str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, **changes}


def _end_of_process() -> None:
    logger = logging.getLogger("footplate")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()


@pytest.fixture
def tiny(current_folder: Path) -> Path:
    """The config of a run of eight iterations, in the current folder of commands."""
    from tests.support import TINY  # registers classes, which other tests with this conftest do not want

    path = current_folder / "tiny.py"
    path.write_text(TINY)
    return path


@pytest.fixture
def footplate(capsys: pytest.CaptureFixture[str]) -> Command:
    """Returns a function that runs a command and returns its exit code, stdout and stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        try:
            code = main([str(each) for each in arguments])
        except SystemExit as stop:
            code = int(stop.code or 0)
        finally:
            _end_of_process()
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return call


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the work_dir `run` of a complete run."""
    from tests.support import TINY

    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.py").write_text(TINY)
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        assert main(["train", "tiny.py", "--work-dir", "run"]) == 0
    _end_of_process()
    return folder
