"""Opens the folder of a run: locks it, protects the checkpoints of other runs, and opens the log file."""

import contextlib
import json
import logging
import os
import shlex
import sys

from footplate import errors, storage
from footplate.checkpoint import read_pointer
from footplate.checkpoint_names import sharded_name
from footplate.distributed import compute_on_main, get_rank, get_world_size, is_main_process
from footplate.engine.control.requests import ON_REQUEST
from footplate.engine.control.run_folder import locked
from footplate.engine.plan.top_level_keys import keys_with_effect
from footplate.engine.saving.resume_plan import ResumePlan
from footplate.engine.values.run import Run
from footplate.errors import ArgumentError, shown_path
from footplate.messages import list_names
from footplate.records import NOT_SHOWN, describe_environment, logging_to, save_changes, surviving_streams
from footplate.storage import commit_bytes

_logger = logging.getLogger("footplate.engine")
_MAX_NAMES = 3
_PROGRAM = os.path.join(os.path.dirname(os.path.abspath(errors.__file__)), "__main__.py")


def open_folder(runner: Run, resume_plan: ResumePlan, resources: contextlib.ExitStack, *, for_training: bool) -> None:
    """Opens the log file, and logs the command and the environment. Closing `resources` closes the file.

    For training, also locks the run's folders and refuses to overwrite another run's checkpoints. While the log is
    open, printing to a closed terminal or pipe does not raise an error. Ranks other than 0 log only errors, each to
    its own file.

    Args:
        runner: The run.
        resume_plan: How to resume the run, for errors.
        resources: The exit stack that will close the log files and release the locks.
        for_training: Whether checkpoints will be saved.

    Raises:
        ArgumentError: Another process is using one of the folders, or they contain another run's checkpoints.
    """
    folder = runner.folder
    is_main = is_main_process()
    if for_training:
        compute_on_main(lambda: _lock_folders(runner, resources))
        with folder.buffered_log():
            for hook in runner.hooks.saving:
                hook.adapt_to_loop(runner)
            if not folder.is_checked:  # otherwise, `train` is called again
                _refuse_overwriting(runner, resume_plan)
        folder.is_checked = True
    before = folder.log_dir
    folder.create()
    if folder.log_dir != before:
        runner.visualizer.move(before, folder.log_dir)
    records, folder.records = folder.records, []
    if is_main:
        name = f"{folder.timestamp}.log"
        os.makedirs(folder.log_dir, exist_ok=True)
    else:
        name = f"rank_{get_rank()}.log"
        records = []  # only rank 0 logs them
    path = os.path.join(folder.log_dir, name)
    resources.enter_context(logging_to(path, records, errors_only=not is_main))
    resources.enter_context(surviving_streams())
    if is_main:
        _log_start(runner)


def _log_start(runner: Run) -> None:
    """Logs the command and the environment, and writes the environment to a file."""
    program, *arguments = sys.argv or [""]
    if os.path.abspath(program) == _PROGRAM or os.path.basename(program) == "footplate":
        program = "footplate"
    _logger.info("command: %s", shlex.join([program, *arguments]), extra=NOT_SHOWN)
    keys = {*runner.cfg}  # empty for a run without a config
    facts = {
        **describe_environment(),
        "processes": get_world_size(),
        "seed": runner.seed,
        "config variables": sorted(map(str, keys - keys_with_effect(runner.cfg))) if keys else None,
    }
    save_changes(facts["git tree"], os.path.join(runner.folder.log_dir, "changes.patch"))
    commit_bytes(os.path.join(runner.folder.log_dir, "environment.json"), json.dumps(facts, indent=1).encode())
    for key, value in facts.items():
        if isinstance(value, str):
            _logger.info("environment: %s: %s", key, value, extra=NOT_SHOWN)
    _logger.info("seed %d, device %s, work_dir %s", runner.seed, runner.device, shown_path(runner.work_dir))
    if get_world_size() > 1:
        size = getattr(getattr(runner.built.get("train_loop"), "dataloader", None), "batch_size", None)
        samples = f", {size * get_world_size()} samples per iteration" if size else ""
        _logger.info("%d processes%s", get_world_size(), samples)


def _lock_folders(runner: Run, locks: contextlib.ExitStack) -> None:
    """Locks a run's work_dir and its local checkpoint folders.

    Raises:
        ArgumentError: A folder is locked by another process. The message identifies that process.
    """
    locks.enter_context(locked(runner.work_dir))
    folders = filter(storage.is_local, (hook.folder_in(runner) for hook in runner.hooks.saving))
    for folder in {*map(storage.absolute, folders)} - {runner.work_dir}:
        locks.enter_context(locked(folder, "default_hooks.checkpoint.out_dir"))


def _refuse_overwriting(runner: Run, resume_plan: ResumePlan) -> None:
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
    option = "--resume PATH (resume=True, load_from=PATH)" if resume_plan.resume else resume_plan.option
    raise ArgumentError(
        f"'{folder}' contains checkpoints from another run: {names}",
        key="work_dir",
        notes=[
            f"To resume that run, pass {option}.",
            "To keep its checkpoints, use another --work-dir (work_dir). To start over here, delete them first.",
        ],
    )
