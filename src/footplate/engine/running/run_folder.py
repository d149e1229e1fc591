"""Manages a run's folder: logs, locks and overwrite protection.

`work_dir` contains the logs and the lock. Checkpoints are saved to `home`, which is `work_dir` or a remote folder.
"""

import contextlib
import errno
import itertools
import json
import logging
import os
import shlex
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from footplate import errors, storage
from footplate.checkpoint import read_pointer
from footplate.checkpoint_names import sharded_name
from footplate.config import Config
from footplate.distributed import (
    broadcast_object,
    compute_on_main,
    get_world_size,
    ignored_launcher,
    is_main_process,
)
from footplate.engine.stopping.requests import ON_REQUEST
from footplate.error_context import at_key
from footplate.errors import ArgumentError, shown_path
from footplate.messages import list_names
from footplate.records import (
    NOT_SHOWN,
    buffer_log,
    describe_environment,
    is_written_config,
    logging_to,
    save_changes,
    surviving_streams,
    write_config,
)
from footplate.storage import commit_bytes
from footplate.storage.local_files import RUN_LOCK

if TYPE_CHECKING:
    from footplate.engine.running.runner import Runner

_logger = logging.getLogger("footplate.engine")
_LOCKS_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)
_MAX_NAMES = 3
_PROGRAM = os.path.join(os.path.dirname(os.path.abspath(errors.__file__)), "__main__.py")


def folders_of(work_dir: str) -> tuple[str, str]:
    """Returns the checkpoint folder, which may be remote, and the local folder for the logs and the lock.

    Raises:
        ArgumentError: The storage protocol of `work_dir` is unknown or not installed.
    """
    home = storage.absolute(work_dir)
    if storage.is_local(work_dir):
        return home, home
    storage.file_system(work_dir)  # checks the protocol
    return home.rstrip("/"), os.path.abspath(os.path.join("work_dirs", storage.base_name(home.rstrip("/"))))


def unused_name(work_dir: str) -> str:
    """Returns an unused folder name in `work_dir`: the current time, plus a number if needed."""
    now = time.strftime("%Y%m%d_%H%M%S")
    names = itertools.chain([now], (f"{now}_{number}" for number in itertools.count(2)))
    return next(name for name in names if not os.path.lexists(os.path.join(work_dir, name)))


def create_log_folder(work_dir: str, name: str) -> str:
    """Creates the log folder of a run and returns its name. If `name` is already taken, picks another one.

    The log file shows that a name is taken, because a writer may have created this run's folder.
    """
    while True:
        os.makedirs(os.path.join(work_dir, name), exist_ok=True)
        with contextlib.suppress(FileExistsError):
            Path(work_dir, name, f"{name}.log").touch(exist_ok=False)
            return name
        name = unused_name(work_dir)


class RunFolder:
    """The checkpoint and log folders of a run.

    Args:
        work_dir: The run's folder; see `Runner`.

    Attributes:
        home: The checkpoint folder, which may be remote.
        work_dir: The local folder for the logs and the lock.
        timestamp: The start time, which is also the name of the log folder.
        records: Log records that will be written when the log file is opened.
    """

    def __init__(self, work_dir: str) -> None:
        with at_key("work_dir"):
            self.home, self.work_dir = folders_of(work_dir)
        self.timestamp: str = broadcast_object(unused_name(self.work_dir))
        self.records: list[logging.LogRecord] = []
        self._is_created = False  # whether this run has created its log folder
        self._is_checked = False  # whether it contains no checkpoints of other runs

    @property
    def log_dir(self) -> str:
        """The run's log folder: `timestamp` in `work_dir`."""
        return os.path.join(self.work_dir, self.timestamp)

    @contextlib.contextmanager
    def buffered_log(self) -> Iterator[None]:
        """Buffers the log records emitted inside the block until the log file is open."""
        with buffer_log() as records:
            yield
        self.records += records

    def create(self, runner: "Runner") -> None:
        """Creates the log folder. Picks a new name if another run has already created a folder with the same name."""
        if self._is_created:
            return
        self._is_created = True
        before = self.log_dir
        self.timestamp = compute_on_main(lambda: create_log_folder(self.work_dir, self.timestamp))
        if self.log_dir != before:
            runner.visualizer.move(before, self.log_dir)

    def write_config(self, cfg: Config) -> None:
        """Writes the config to the work_dir if it was loaded from a file.

        If a file with this name already exists in the work_dir and was written or edited by a user, writes the config
        to the log folder instead.
        """
        if not cfg.filename:
            return
        name = f"{Path(cfg.filename).stem}.py"
        path = os.path.join(self.work_dir, name)
        inside = os.path.join(self.log_dir, name)
        if os.path.lexists(path) and not is_written_config(path):
            _logger.warning(
                "Keeping '%s', which has been edited or was not written by a run. Writing the config to '%s' instead.",
                path,
                inside,
            )
            path = inside
        write_config(cfg, path, signed=True)

    def record_stop(self, reason: str, iteration: int) -> None:
        """Adds why and when training ended early to `start.json`, which LoggerHook has written, if it exists."""
        if not self._is_created:
            return  # the folder may be another run's
        path = os.path.join(self.log_dir, "start.json")
        with contextlib.suppress(OSError):  # also if the disk is full, which must not hide the reason
            record = json.loads(Path(path).read_bytes())
            commit_bytes(path, json.dumps({**record, "stopped_by": reason, "stopped_at": iteration}).encode())

    def remove_failed_start(self) -> None:
        """Removes the log folder, and the work_dir if it is then empty."""
        if self._is_created and is_main_process():
            shutil.rmtree(self.log_dir, ignore_errors=True)
            with contextlib.suppress(OSError):
                os.rmdir(self.work_dir)

    def open(self, runner: "Runner", resources: contextlib.ExitStack, *, for_training: bool) -> None:
        """Opens the log file, and logs the command and the environment. Closing `resources` closes the file.

        For training, also locks the run's folders and refuses to overwrite another run's checkpoints. While the log is
        open, printing to a closed terminal or pipe does not raise an error. Ranks other than 0 log only errors, each to
        its own file.

        Args:
            runner: The runner.
            resources: The exit stack that will close the log files and release the locks.
            for_training: Whether checkpoints will be saved.

        Raises:
            ArgumentError: Another process is using one of the folders, or they contain another run's checkpoints.
        """
        is_main = is_main_process()
        if for_training:
            compute_on_main(lambda: _lock_folders(runner, resources))
            with self.buffered_log():
                for hook in runner.hooks.saving:
                    hook.adapt_to_loop(runner)
                if not self._is_checked:  # otherwise, `train` is called again
                    _refuse_overwriting(runner)
            self._is_checked = True
        self.create(runner)
        records, self.records = self.records, []
        if is_main:
            name = f"{self.timestamp}.log"
            os.makedirs(self.log_dir, exist_ok=True)
        else:
            name = f"rank_{runner.rank}.log"
            records = []  # only rank 0 logs them
        path = os.path.join(self.log_dir, name)
        resources.enter_context(logging_to(path, records, errors_only=not is_main))
        resources.enter_context(surviving_streams())
        if is_main:
            _log_start(runner)


def _log_start(runner: "Runner") -> None:
    """Logs the command and the environment, and writes the environment to a file."""
    program, *arguments = sys.argv or [""]
    if os.path.abspath(program) == _PROGRAM or os.path.basename(program) == "footplate":
        program = "footplate"
    _logger.info("command: %s", shlex.join([program, *arguments]), extra=NOT_SHOWN)
    facts = {**describe_environment(), "processes": runner.world_size, "seed": runner.seed}
    save_changes(facts["git tree"], os.path.join(runner.log_dir, "changes.patch"))
    commit_bytes(os.path.join(runner.log_dir, "environment.json"), json.dumps(facts, indent=1).encode())
    for key, value in facts.items():
        if isinstance(value, str):
            _logger.info("environment: %s: %s", key, value, extra=NOT_SHOWN)
    _logger.info("seed %d, device %s, work_dir %s", runner.seed, runner.device, shown_path(runner.work_dir))
    if runner.world_size > 1:
        size = getattr(getattr(runner.built.get("train_loop"), "dataloader", None), "batch_size", None)
        samples = f", {size * get_world_size()} samples per iteration" if size else ""
        _logger.info("%d processes%s", runner.world_size, samples)


@contextlib.contextmanager
def locked(folder: str, key: str = "work_dir") -> Iterator[None]:
    """Locks a folder for the duration of the block. If the process dies, the operating system releases the lock.

    If the file system does not support locks, only logs a warning.

    Args:
        folder: A local folder. It is created if it does not exist.
        key: The config key of the folder, for the error message.

    Raises:
        ArgumentError: The folder is not writable or is locked by another process. The message identifies that process.
    """
    path = os.path.join(folder, RUN_LOCK)
    lock = FileLock(path, timeout=0.5, fallback_to_soft=False)  # `is_locked` locks it for a moment
    try:
        os.makedirs(folder, exist_ok=True)
        lock.acquire()
    except Timeout:
        advice = "Use another folder, or stop the other run."
        if launcher := ignored_launcher():
            advice = f"If both processes belong to the same run, set launcher='{launcher}'."
        notes = [advice]
        with contextlib.suppress(FileNotFoundError):  # the other run has just ended
            notes.insert(0, Path(path).read_text("utf-8", "replace"))
        raise ArgumentError(f"another run is using the folder '{folder}'", key=key, notes=notes) from None
    except OSError as error:
        if error.errno not in _LOCKS_UNSUPPORTED:
            raise ArgumentError(f"cannot write to '{error.filename or folder}': {error.strerror}", key=key) from error
        _logger.warning(
            "The folder '%s' cannot be locked (%s). A second run in it would not be detected.", folder, error.strerror
        )
        yield
        return
    process = os.getpid()
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    Path(path).write_text(f"process {process} on {socket.gethostname()}, since {now}", encoding="utf-8")
    try:
        yield
    finally:
        if os.getpid() == process:  # not in a child process that was forked inside the block
            with contextlib.suppress(OSError):
                os.unlink(path)  # while the lock is still held
            lock.release()


def _lock_folders(runner: "Runner", locks: contextlib.ExitStack) -> None:
    """Locks a run's work_dir and its local checkpoint folders.

    Raises:
        ArgumentError: A folder is locked by another process. The message identifies that process.
    """
    locks.enter_context(locked(runner.work_dir))
    folders = filter(storage.is_local, (hook.folder_in(runner) for hook in runner.hooks.saving))
    for folder in {*map(storage.absolute, folders)} - {runner.work_dir}:
        locks.enter_context(locked(folder, "default_hooks.checkpoint.out_dir"))


def _refuse_overwriting(runner: "Runner") -> None:
    """Checks that a run does not overwrite another run's checkpoints. All ranks must call this function.

    A run that resumes from a checkpoint in its own folder may replace later checkpoints, which are listed in a warning.

    Raises:
        ArgumentError: The run's folder contains another run's checkpoints.
    """
    start = compute_on_main(lambda: runner.saver.last)  # only rank 0 records the checkpoints that it writes
    saving = (runner.folder.home, *(hook.folder_in(runner) for hook in runner.hooks.saving))
    folders = {*map(storage.canonical, saving)}
    is_own = start is not None and storage.canonical(storage.parent(storage.absolute(start))) in folders

    def existing() -> list[str]:
        paths = [path for hook in runner.hooks.saving for path in hook.paths_to_overwrite(runner)]
        if is_own:
            return paths
        stopped = [storage.join(runner.folder.home, name) for name in (ON_REQUEST, sharded_name(ON_REQUEST))]
        resumable = [path for path in (read_pointer(runner.folder.home), *stopped) if path and storage.exists(path)]
        return list(dict.fromkeys([*paths, *resumable]))

    paths = compute_on_main(existing)
    if not paths:
        return
    folder = storage.parent(paths[0])
    names = list_names([storage.base_name(path) for path in paths], _MAX_NAMES)
    if is_own:
        _logger.warning("This run will replace later checkpoints in '%s': %s.", folder, names)
        return
    option = "--resume PATH (resume=True, load_from=PATH)" if runner.resume_plan.resume else runner.resume_plan.option
    raise ArgumentError(
        f"'{folder}' contains checkpoints from another run: {names}",
        key="work_dir",
        notes=[
            f"To resume that run, pass {option}.",
            "To keep its checkpoints, use another --work-dir (work_dir). To start over here, delete them first.",
        ],
    )
