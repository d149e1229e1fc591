import copy
import functools
import logging
import multiprocessing.spawn
import os
import shutil
import sys
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# Tiny tensors gain nothing from threads, and tests that run side by side lose by them.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Tests run on the CPU, so that several processes need no devices of their own. To use a GPU: CUDA_VISIBLE_DEVICES=0
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
# Tests have no terminal, but readline, which pytest imports, passes the size of one to the processes that it starts.
for each in ("COLUMNS", "LINES"):
    os.environ.pop(each, None)
# Of `make rounding`: results of matrix products depend on shapes, here and in the processes that tests start.
if os.environ.get("ROUND_BY_SHAPE") and "rounding by shape" not in sys.modules:
    from tests.rounding import sitecustomize

    paths = [str(Path(sitecustomize.__file__).parent), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))


# Tests do not measure time, since the machine may be busy.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def _use_one_thread() -> None:
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


# OpenMP hangs in a forked process if its parent has used several threads.
os.register_at_fork(after_in_child=_use_one_thread)


def pytest_make_parametrize_id(val: object) -> str | None:
    """Shortens long texts in the names of tests, which would fill the log."""
    return ascii(val[:40]) if isinstance(val, (str, bytes)) and len(val) > 200 else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escapes surrogates in captured output: xdist cannot send them from a worker."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.fixture(autouse=True)
def _clean_process() -> Iterator[None]:
    """Resets what a run leaves in its process: log handlers, the default scope, named instances, old import names."""
    _reset_process()  # a fixture of a module or a session may have run something before the first test
    yield
    _reset_process()


def _reset_process() -> None:
    logger = logging.getLogger("footplate")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.setLevel(logging.NOTSET)
    if "footplate.registry" in sys.modules:
        sys.modules["footplate.registry"].set_default_scope(None)
    if "footplate.records" in sys.modules:
        sys.modules["footplate.records"].MessageHub._instance_dict.clear()
    if "footplate_openmmlab" in sys.modules:
        _take_back_import_names()


def _take_back_import_names() -> None:
    """Undoes `openmmlab.install` and forgets what was imported after it. Only tests need that."""
    from footplate.data.workers import WorkerSetup
    from footplate_openmmlab import installation, patches, skipped_imports, versions
    from footplate_operators import OperatorsFinder

    for records in (patches._applied, skipped_imports.skipped, versions._originals, versions._ranges):
        records.clear()
    if installation.install not in WorkerSetup.functions:
        return
    installation.install.cache_clear()
    WorkerSetup.functions.remove(installation.install)
    multiprocessing.spawn.get_preparation_data = installation._get_preparation_data
    finders = (installation.NamesFinder, installation.InstalledFinder, OperatorsFinder)
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, finders)]
    for title, module in list(sys.modules.items()):
        if isinstance(getattr(getattr(module, "__spec__", None), "loader", None), finders):
            parent, _, child = title.rpartition(".")
            del sys.modules[title]
            vars(sys.modules.get(parent, module)).pop(child, None)


@pytest.fixture(autouse=True, scope="session")
def _packages_are_read_once() -> Iterator[None]:
    """Every run records the versions of all packages, which takes longer than the training of most tests."""
    from footplate.records import environment

    read = environment.installed_packages
    packages = functools.cache(lambda path: read())
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(environment, "installed_packages", lambda: dict(packages(tuple(sys.path))))
        yield


@pytest.fixture(autouse=True, scope="session")
def _git_runs_once() -> Iterator[None]:
    """Every run asks git about the current folder with six processes: the answer is the same for the repository."""
    from footplate.records import environment

    root, read = Path(__file__).parent, environment._read_git
    tree = functools.cache(read)

    def answer() -> dict[str, Any] | None:
        folder = Path.cwd()
        if folder == root:
            return copy.deepcopy(tree())
        return read() if any((each / ".git").exists() for each in (folder, *folder.parents)) else None

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(environment, "_read_git", answer)
        yield


@pytest.fixture(autouse=True, scope="session")
def _files_are_not_synced() -> Iterator[None]:
    """No machine loses its power in a test. The order of the calls is tested, and the fault tests run as users do."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture
def current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test's own folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def secluded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keeps what the libraries of writers leave behind below the folder of the test."""
    from tests.footplate.records.seclusion import seclusion

    with seclusion(tmp_path, monkeypatch):
        yield


_NOBODY = 65534


@pytest.fixture
def folder_of_nobody() -> Iterator[Path]:
    """A folder of an ordinary user, as whom the test acts: permissions, which mean nothing to root, are in force."""
    if not hasattr(os, "geteuid"):
        pytest.skip("this platform has no users of POSIX")
    is_root = os.geteuid() == 0
    if is_root:
        try:
            os.setegid(_NOBODY)
            os.seteuid(_NOBODY)
        except OSError as error:
            os.setegid(0)
            pytest.skip(f"root may not act as another user here: {error}")
    folder = Path(tempfile.mkdtemp(prefix="footplate-"))
    try:
        yield folder
    finally:
        if is_root:
            os.seteuid(0)
            os.setegid(0)
        for each in (folder, *folder.rglob("*")):
            each.chmod(0o700)
        shutil.rmtree(folder)
