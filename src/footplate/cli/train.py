"""Implements the command `footplate train`."""

import os
import shlex
import signal
from argparse import Namespace
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from footplate.cli.arguments import add_command, add_config
from footplate.cli.config_arguments import read_run_config
from footplate.cli.launching import add_launcher, start_processes
from footplate.cli.output import print_error, print_result, print_text
from footplate.errors import ArgumentError, shown_path
from footplate.extensions import extensions, is_translated
from footplate.messages import list_names

if TYPE_CHECKING:
    from footplate.config import Config
    from footplate.engine import Runner
    from footplate.hooks import ProgressHook

NOT_SAVED = 4
_MAX_KEYS = 6  # in a message
_LABEL_WIDTH = 17


def add_commands(subparsers: Any) -> None:
    """Adds the command to the parser."""
    parser = add_command(
        subparsers,
        "train",
        run,
        "train a model",
        "Train the model of a config or recipe.",
        "footplate train config.py --set optim_wrapper.optimizer.lr=0.01 --amp",
    )
    add_config(parser)
    parser.add_value(
        "--work-dir",
        "DIR",
        "the folder for checkpoints and logs (default: the config's work_dir, or work_dirs/<config name>)",
    )
    parser.add_value(
        "--resume",
        "auto|PATH",
        "resume from the newest intact checkpoint in the work_dir, or from PATH",
        nargs="?",
        const="auto",
    )
    parser.add_value(
        "--resume-settings",
        "keep|take",
        "with --resume: keep the checkpoint's optimizer settings (default), or take the config's",
        choices=("keep", "take"),
    )
    parser.add_flag("--amp", "train in mixed precision")
    parser.add_value("--seed", "N", "the seed for all random number generators", type=int)
    add_launcher(parser)
    parser.add_flag("--no-preflight", "skip the check that saves, loads and validates once before training")


def run(arguments: Namespace) -> int:
    """Trains a model and returns the exit code, which is 4 if the last save failed."""
    if hasattr(signal, "SIGUSR1"):  # requests a save; outside training, it would end the process
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    cfg = read_run_config(arguments)
    start = _resume_options(arguments)
    _apply_options(arguments, cfg)
    code = start_processes(arguments)
    if code is not None:
        return code
    from footplate.engine import Runner
    from footplate.hooks import ProgressHook, RecordHook
    from footplate.records import surviving_streams
    from footplate.tools.explain_keys import explain_config

    runner = Runner.from_cfg(cfg, **start)
    with runner.folder.buffered_log():
        for message in (message for extension in extensions() for message in extension.startup_messages()):
            runner.logger.info("%s", message)
        for record in arguments.held_warnings:
            runner.logger.handle(record)
        arguments.held_warnings = ()
    if (runner.resume_plan.resume or runner.resume_plan.is_restarted) and not runner.rank:
        _warn_of_changes(runner, cfg)
    # The explanation of a first-generation config shows the keys that the user wrote.
    explain = RecordHook("explained.txt", lambda: explain_config(cfg if is_translated(cfg) else runner.cfg))
    progress = ProgressHook()
    for hook in (explain, progress):
        runner.register_hook(hook)
    try:
        runner.train()
    except BaseException as error:
        _end_failed(runner, arguments, progress, error)
        raise
    with surviving_streams():
        if runner.train_loop.out_of_time:
            print_resume_command(runner, arguments)
        _print_paths(runner, arguments, state="time limit" if runner.train_loop.out_of_time else "finished")
    if runner.saver.failure is None:
        return 0
    if not runner.rank:  # only rank 0 knows the last checkpoint
        last = runner.saver.last
        # The final checkpoint may be saved twice, so both saves may have the same path.
        saved = "this run has no checkpoint"
        if last:
            saved = f"the last checkpoint, from an earlier save, is {shown_path(last)}"
        print_error(f"error: training ended, but the last save failed: {runner.saver.failure}; {saved}\n")
    return NOT_SAVED


def _resume_options(arguments: Namespace) -> dict[str, Any]:
    """Returns the Runner arguments for resuming, which are not saved in the config."""
    if arguments.resume is None:
        if arguments.resume_settings is not None:
            raise ArgumentError("--resume-settings needs --resume", key="--resume-settings")
        return {}
    # The first start of a job that always passes --resume takes the weights of the config's `load_from`.
    options = {"resume": "auto"} if arguments.resume == "auto" else {"resume": True, "load_from": arguments.resume}
    if arguments.resume_settings is not None:
        options["resume_settings"] = arguments.resume_settings
    return options


def _apply_options(arguments: Namespace, cfg: "Config") -> None:
    """Applies the command-line options to the config, so that the saved config is complete."""
    if arguments.no_preflight or "preflight" not in cfg:
        cfg["preflight"] = not arguments.no_preflight
    if arguments.seed is not None:
        cfg["randomness"] = {**(cfg.get("randomness") or {}), "seed": arguments.seed}
    if arguments.amp and is_translated(cfg):
        cfg["fp16"] = cfg.get("fp16") or {"loss_scale": "dynamic"}
    elif arguments.amp:
        wrapper = cfg.get("optim_wrapper")
        kind = (wrapper or {}).get("type", "OptimWrapper")
        name = str(kind if isinstance(kind, str) else getattr(kind, "__name__", kind)).rpartition(".")[2]
        if wrapper is None or name not in ("OptimWrapper", "AmpOptimWrapper"):
            message = "--amp needs an optim_wrapper of type OptimWrapper or AmpOptimWrapper"
            raise ArgumentError(message, key="optim_wrapper.type", found=wrapper and kind)
        wrapper["type"] = "AmpOptimWrapper"
        wrapper.setdefault("loss_scale", "dynamic")


def _warn_of_changes(runner: "Runner", cfg: "Config") -> None:
    """Warns about keys in the user's config `cfg` that have changed since the last start of the run in the work_dir."""
    from pathlib import Path

    from footplate.tools.diff import compare
    from footplate.tools.key_equivalents import original_key
    from footplate.tools.run_files import START_KEYS, config_of

    before = config_of(Path(runner.work_dir))
    changes = () if before is None else compare(before, runner.cfg)
    values = {path: tuple(side and side.value for side in sides) for path, *sides in changes}
    length = values.get("train_cfg.max_epochs") or values.get("train_cfg.max_iters")
    if length and is_translated(cfg):  # the translation sets the ends of the schedules to the length
        values = {
            path: pair for path, pair in values.items() if pair != length or not path.startswith("param_scheduler")
        }
    # A resumed run uses the checkpoint's seed.
    ignored = {*START_KEYS, "randomness.seed"}
    if all(set(side or ()) <= {"seed"} for side in values.get("randomness", ())):
        ignored.add("randomness")
    paths = [path for path in values if path not in ignored]
    changed = list(dict.fromkeys(original_key(cfg, path) for path in paths))
    if changed:
        with runner.folder.buffered_log():
            runner.logger.warning(
                "The config has changed since the run was last started: %s. "
                "To keep the original values, restore the config and repeat the original options.",
                list_names(changed, _MAX_KEYS),
            )


def print_resume_command(runner: "Runner", arguments: Namespace) -> None:
    """Prints the command that resumes a stopped run.

    Prints nothing if there is no checkpoint, or if an external launcher started several processes.
    """
    started_here = runner.world_size == 1 or arguments.nproc is not None
    if not runner.rank and started_here and runner.saver.last is not None:
        print_text(f"{'resume:':<{_LABEL_WIDTH}}{resume_command(arguments.argv)}\n")


def resume_command(argv: Sequence[str]) -> str:
    """Returns the command that resumes a run. `argv` contains the arguments of the command that last started the run.

    >>> resume_command(["train", "a.py", "--resume", "x.pth", "--set", "a.b=[1, 2]"])
    "footplate train a.py --set 'a.b=[1, 2]' --resume"
    """
    kept = [
        word
        for before, word in pairwise(["", *argv])
        if word.partition("=")[0] != "--resume" and (before != "--resume" or word.startswith("-"))
    ]
    return shlex.join(["footplate", *kept, "--resume"])


def _end_failed(runner: "Runner", arguments: Namespace, progress: "ProgressHook", error: BaseException) -> None:
    """Finishes the output of a run that was stopped by a signal or an error.

    If the run was interrupted or saved after the error, prints the command that resumes it. With `--json`, also prints
    the result of an interrupted run.

    Raises:
        ComponentError: A torch operation failed in a module of the model or in the optimizer.
    """
    from footplate.cli.error_messages import raise_module_error
    from footplate.engine.control.requests import Interrupted
    from footplate.records import surviving_streams

    progress.after_train(runner)
    has_begun = "train_loop" in runner.built
    last = has_begun and runner.saver.last  # only rank 0 knows it
    saved = f"; the last checkpoint is {shown_path(last)}" if last else ""
    done = f"after {runner.iter} of {runner.max_iters} iterations" if has_begun else "before the first iteration"
    if runner.activity.failed_in == "val":
        done = f"during validation {done}"
    elif runner.activity.failed_in == "preflight":
        done = "during preflight validation"
    arguments.progress = done + saved
    # If workers exit together with the process, torch raises an error, which would hide the real one.
    if hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with surviving_streams():
        if isinstance(error, Interrupted) or runner.requests.saved_after_error:
            print_resume_command(runner, arguments)
        if isinstance(error, Interrupted) and arguments.json:
            _print_paths(runner, arguments, state="stopped")
    raise_module_error(f"training ({arguments.progress})", error, runner)


def _print_paths(runner: "Runner", arguments: Namespace, *, state: str) -> None:
    """Prints the paths of the log, checkpoints and images, and the command that writes a report."""
    if runner.rank:
        return
    from footplate import storage
    from footplate.hooks import CheckpointHook
    from footplate.records.message_hub import RESERVED_NAMES

    def existing(path: str | None) -> str | None:
        return path if path and storage.exists(path) else None

    scalars = runner.message_hub.log_scalars
    validated = [key.removeprefix("val/") for key in scalars if key.startswith("val/")]
    best = [path for hook in runner.hooks if isinstance(hook, CheckpointHook) for path in hook.best.paths()]
    data: dict[str, Any] = {
        "state": state,
        "iterations": runner.iter,
        "max_iters": runner.max_iters,
        "work_dir": runner.work_dir,
        "metrics": {name: scalars[f"val/{name}"].current() for name in validated if name not in RESERVED_NAMES},
        "log": existing(f"{os.path.join(runner.folder.log_dir, runner.folder.timestamp)}.log"),
        "last_checkpoint": existing(runner.saver.last),
        "best_checkpoints": list(filter(existing, best or [runner.message_hub.get_info("best_ckpt")])),
        "save_error": runner.saver.failure,
    }
    paths = [
        ("log", data["log"]),
        ("last checkpoint", data["last_checkpoint"]),
        *(("best checkpoint", path) for path in data["best_checkpoints"]),
        ("images", existing(os.path.join(runner.folder.log_dir, "vis_data", "vis_image"))),
    ]
    lines = [(name, shown_path(path)) for name, path in paths if path]
    lines.append(("report", shlex.join(["footplate", "report", shown_path(runner.work_dir)])))
    print_result(arguments, data, "".join(f"{name + ':':<{_LABEL_WIDTH}}{text}\n" for name, text in lines))
