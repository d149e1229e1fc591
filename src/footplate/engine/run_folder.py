"""Manages the folder of a run: its log, the lock that allows one run per folder, and restarts by torchrun.

`work_dir` contains the logs and the lock. Checkpoints are also saved there, or in a remote `home`.
"""

import contextlib
import itertools
import json
import logging
import os
import shlex
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from footplate import storage
from footplate.distributed import broadcast_object, compute_on_main, get_data_world_size, is_main_process
from footplate.engine.rank_failures import monitor_run
from footplate.engine.signals import EarlyExitError
from footplate.errors import ArgumentError, CheckpointError, FootplateError
from footplate.records import NOT_SHOWN, describe_environment, logging_to, surviving_streams
from footplate.storage import commit_bytes

if TYPE_CHECKING:
    from footplate.engine.runner import Runner

try:
    import fcntl
except ImportError:  # no advisory locks on this platform, so two runs in one folder are not refused
    fcntl = None  # type: ignore[assignment]

_logger = logging.getLogger("footplate.engine")
_LOCK = ".lock"
_SETTINGS = {"work_dir": "another work_dir", "default_hooks.checkpoint.out_dir": "another work_dir or out_dir"}
_STARTED_FROM = ".began_with"
_MAX_BYTES = 1 << 16  # the maximum size of a pointer file
_MOST_LINES = 5  # the maximum number of lines of an error message in the log
_PROGRAM = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "__main__.py")


def folders_of(work_dir: str) -> tuple[str, str]:
    """Returns the folder of a run's checkpoints and pointer file, and the local folder of its logs and lock.

    Raises:
        ArgumentError: The storage protocol of `work_dir` is unknown or not installed.
    """
    home = storage.absolute(work_dir)
    if storage.is_local(work_dir):
        return home, home
    storage.check_protocol(work_dir)
    return home.rstrip("/"), os.path.abspath(os.path.join("work_dirs", storage.base_name(home.rstrip("/"))))


def unused_name(work_dir: str) -> str:
    """Returns a folder name that does not exist in `work_dir`: the current time, with a number if needed."""
    now = time.strftime("%Y%m%d_%H%M%S")
    names = itertools.chain([now], (f"{now}_{number}" for number in itertools.count(2)))
    return next(name for name in names if not os.path.lexists(os.path.join(work_dir, name)))


def create_log_folder(work_dir: str, name: str) -> str:
    """Creates the log folder of a run and returns its name. Chooses a new name if the folder already exists."""
    os.makedirs(work_dir, exist_ok=True)
    while True:
        try:
            os.mkdir(os.path.join(work_dir, name))
        except FileExistsError:
            name = unused_name(work_dir)
        else:
            return name


def enter_log_folder(runner: "Runner") -> None:
    """Creates the log folder of a run. If another run has created it in the meantime, chooses a new name."""
    before = runner.log_dir
    runner.timestamp = compute_on_main(lambda: create_log_folder(runner.work_dir, runner.timestamp))
    runner.log_dir = os.path.join(runner.work_dir, runner.timestamp)
    if runner.log_dir != before:
        monitor_run(runner)
        runner.visualizer.move(before, runner.log_dir)
        for loop in runner.built_loops():  # a loop that is built later uses the new folder
            for each in getattr(loop, "sets", ()):
                each.evaluator.set_context(folder=runner.log_dir)


@contextlib.contextmanager
def opened_log(
    runner: "Runner", records: Sequence[logging.LogRecord], log_file: Mapping[str, Any] | None
) -> Iterator[None]:
    """Writes the log to the log folder of the run during the block, starting with the command and the environment.

    In the block, printing raises no error after the terminal or pipe has been closed. Ranks other than the first write
    only their errors, each to its own file. An error that ends the run is logged only to the file, because the code
    that catches the error prints it.

    Args:
        runner: The runner.
        records: The records that were logged before the log file was open.
        log_file: The size limits of the log file; see `Runner`.
    """
    if not is_main_process():
        path = os.path.join(runner.log_dir, f"rank_{runner.rank}.log")
        with logging_to(path, errors_only=True, **(log_file or {})), surviving_streams():
            yield
        return
    os.makedirs(runner.log_dir, exist_ok=True)
    path = os.path.join(runner.log_dir, f"{runner.timestamp}.log")
    with logging_to(path, records, **(log_file or {})), surviving_streams():
        program, *arguments = sys.argv or [""]
        if os.path.abspath(program) == _PROGRAM or os.path.basename(program) == "footplate":
            program = "footplate"
        _logger.info("command: %s", shlex.join([program, *arguments]), extra=NOT_SHOWN)
        facts = {**describe_environment(), "seed": runner.seed}
        commit_bytes(os.path.join(runner.log_dir, "environment.json"), json.dumps(facts, indent=1).encode())
        for key, value in facts.items():
            if isinstance(value, str):
                _logger.info("environment: %s: %s", key, value, extra=NOT_SHOWN)
        _logger.info("seed %d, device %s, work_dir %s", runner.seed, runner.device, runner.work_dir)
        if runner.world_size > 1:
            size = getattr(getattr(runner.built.get("train_loop"), "dataloader", None), "batch_size", None)
            samples = f", {size * get_data_world_size()} samples per iteration" if size else ""
            _logger.info("%d processes%s", runner.world_size, samples)
        try:
            yield
        except EarlyExitError:
            raise
        except Exception as error:
            text = "; ".join(line.strip() for line in str(error).strip().splitlines()[:_MOST_LINES])
            name = "" if isinstance(error, FootplateError) else f"{type(error).__name__}: "
            _logger.error("The run failed: %s%s", name, text, extra=NOT_SHOWN)
            raise


@contextlib.contextmanager
def locked(folder: str, key: str = "work_dir") -> Iterator[Callable[[], None]]:
    """Locks a folder during the block. The operating system releases the lock if this process dies.

    Yields a function that raises a CheckpointError if another run has created and locked a new folder at this path.

    Args:
        folder: A local folder. It is created if needed.
        key: The config key of the folder, for the error message.

    Raises:
        ArgumentError: Another process has locked the folder. The message identifies the process.
    """
    if fcntl is None:
        yield lambda: None
        return
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, _LOCK)
    descriptor, process = _open_and_lock(path, folder, key), os.getpid()

    def check() -> None:
        if os.path.exists(path) and not _is_at(path, descriptor):
            raise CheckpointError(
                f"The folder '{folder}' was moved or removed, and another run has created it again. Nothing is saved "
                "there.",
                key=key,
            )

    try:
        yield check
    finally:
        if os.getpid() == process:  # not in a child process that was forked within the block
            with contextlib.suppress(OSError):
                if _is_at(path, descriptor):  # otherwise another run has recreated the folder
                    os.unlink(path)  # while the lock is still held
            _close(descriptor)


@contextlib.contextmanager
def locked_for(runner: "Runner") -> Iterator[None]:
    """Locks the folders that only one run may use: its work_dir and the folders of its checkpoints.

    Raises:
        ArgumentError: Another process has locked one of the folders. The message identifies the process.
    """
    with contextlib.ExitStack() as stack:
        checks = [stack.enter_context(locked(runner.work_dir))]
        folders = [hook.folder_in(runner) for hook in runner.hooks if hasattr(hook, "folder_in")]
        for folder in {storage.absolute(each) for each in folders if storage.is_local(each)} - {runner.work_dir}:
            with contextlib.suppress(OSError):  # an unusable folder is reported when a save fails
                checks.append(stack.enter_context(locked(folder, "default_hooks.checkpoint.out_dir")))
        runner.saver.checks = checks
        yield


def _open_and_lock(path: str, folder: str, key: str) -> int:
    """Opens and locks the lock file. Tries again if a run that has just ended removes the file."""
    while True:
        # The lock belongs to the process, not to the open file, so workers that outlive the process do not hold it.
        # Links are not followed, because the file that one points to would be overwritten.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            _lock(descriptor, folder, key)
            if _is_at(path, descriptor):
                return descriptor
        except BaseException as error:
            if isinstance(error, OSError) and error.filename is None:
                error.filename = path
            _close(descriptor)
            raise
        _close(descriptor)


def _lock(descriptor: int, folder: str, key: str) -> None:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        holder = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip()
        raise ArgumentError(
            f"another run uses the folder '{folder}'",
            key=key,
            notes=[*([holder] if holder else []), f"Use {_SETTINGS[key]}, or stop the other run."],
        ) from None
    except OSError as error:  # a file system that does not support locks
        _logger.warning(
            "The folder '%s' cannot be locked (%s). A second run in it would not be detected.", folder, error.strerror
        )
        return
    holder = f"process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}\n"
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, holder.encode(), 0)


def _is_at(path: str, descriptor: int) -> bool:
    return os.path.exists(path) and os.path.samestat(os.fstat(descriptor), os.stat(path))


def _close(descriptor: int) -> None:
    with contextlib.suppress(OSError):  # the descriptor is closed anyway, and the run's own error matters more
        os.close(descriptor)


class Restart:
    """Selects the checkpoint from which a run resumes after a restart by torchrun: the last one that this run saved.

    The pointer file in the folder may refer to a checkpoint of an earlier run. A run that starts over records this
    checkpoint, so that a restart does not resume from it if the run has failed before its own first save.

    Args:
        home: The folder of the checkpoints.
        work_dir: The local folder of the run.
    """

    def __init__(self, home: str, work_dir: str) -> None:
        self._home, self._record_path = home, os.path.join(work_dir, _STARTED_FROM)
        names = ("TORCHELASTIC_RESTART_COUNT", "TORCHELASTIC_MAX_RESTARTS")
        texts = [os.environ.get(name, "") for name in names]
        self._count, self._most = (int(text) if text.isdigit() else 0 for text in texts)
        self._resumes = False

    def begins_with(self, load_from: str | None, resume: bool | str) -> tuple[str | None, bool | str]:
        """Returns the effective values of `load_from` and `resume`. All ranks must call it."""
        self._resumes = bool(resume)
        if not self._count:
            if is_main_process() and resume and (load_from is None or resume == "auto"):
                recorded = self._recorded()
                if recorded and recorded == self._pointer():
                    _logger.warning(
                        "%s: the latest run in this folder started over and saved no checkpoint. Resuming an earlier "
                        "run. To start over, remove `resume` (or `--resume`).",
                        self._home,
                    )
            return load_from, resume
        pointer = broadcast_object(self._pointer())
        if not pointer or (not resume and broadcast_object(self._recorded()) == pointer):
            _logger.warning(
                "Restart %d of %d by torchrun: the run starts over, because it has saved no checkpoint.",
                self._count,
                self._most,
            )
            return load_from, resume
        self._resumes = True
        _logger.warning(
            "Restart %d of %d by torchrun: the run resumes from its last checkpoint.", self._count, self._most
        )
        return None, True

    def record(self) -> None:
        """Records the current pointer when a run starts over in a folder that an earlier run has used."""
        if self._count or self._resumes or not is_main_process():
            return
        pointer = self._pointer()
        if pointer or self._most:
            with contextlib.suppress(OSError):
                commit_bytes(self._record_path, os.fsencode(pointer))

    def _recorded(self) -> str:
        return _read_text(self._record_path) or ""

    def _pointer(self) -> str:
        """Returns the content and the modification time of the pointer file. Checkpoint names may be reused."""
        path = storage.join(self._home, "last_checkpoint")
        content = _read_text(path)
        return "" if content is None else f"{content} {storage.status(path).modified}"


def _read_text(path: str) -> str | None:
    """Returns the content of a small file, or None if it cannot be read."""
    try:
        return os.fsdecode(storage.read_bytes(path, _MAX_BYTES))
    except OSError:
        return None
