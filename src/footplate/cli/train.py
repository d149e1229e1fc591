"""`footplate train`."""

import argparse
import os
import signal
from typing import TYPE_CHECKING, Any

from footplate.cli.following import tell, tell_how_to_go_on, tell_how_to_look
from footplate.cli.launching import add_launcher, choose_launcher, start_processes, starts_processes
from footplate.cli.options import add_config, add_trust, choose_work_dir, read_config
from footplate.cli.streams import say_error
from footplate.messages import list_names

if TYPE_CHECKING:
    from footplate.config import Config
    from footplate.engine import Runner

NOT_SAVED = 4
_MOST_NAMED = 6
_GIVEN = [(source, 0) for source in ("--set", "--cfg-options", "the command line")]  # origins of values from flags


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Adds the command to the parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "train", help="train a model", description="Train the model of a config or recipe."
    )
    add_config(parser)
    parser.add_argument(
        "--work-dir", metavar="DIR", help="where checkpoints and logs go: work_dirs/<name of the config>"
    )
    parser.add_argument(
        "--resume",
        metavar="auto|PATH",
        nargs="?",
        const="auto",
        help="go on from the newest whole checkpoint of the work_dir, or from PATH",
    )
    parser.add_argument("--amp", action="store_true", help="train in mixed precision")
    parser.add_argument("--seed", metavar="N", type=int, help="the seed of all random generators")
    add_launcher(parser)
    parser.add_argument(
        "--no-preflight", action="store_true", help="begin without saving, loading and validating once on trial"
    )
    add_trust(parser)
    parser.set_defaults(run=run)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Trains a model."""
    _let_early_wishes_pass()
    cfg = read_config(arguments)
    choose_work_dir(cfg, arguments.work_dir)
    _apply(arguments, cfg)
    if starts_processes(arguments):
        return start_processes(arguments, cfg)
    return _train(arguments, cfg)


def _train(arguments: argparse.Namespace, cfg: "Config") -> int:
    """Trains in this process and returns the exit code."""
    from footplate.checkpoint import trusting
    from footplate.engine import Runner
    from footplate.engine.signals import Interrupted
    from footplate.hooks import CurveHook, ProgressHook, RecordHook
    from footplate.records import surviving_streams

    runner = Runner.from_cfg(cfg, check=True)
    if cfg.get("resume") and not runner.rank:
        _name_changes(runner, [*arguments.set, *arguments.cfg_options])
    runner.register_hook(RecordHook("explained.txt", lambda: _explained(cfg, runner)))
    progress = ProgressHook()
    runner.register_hook(progress)
    runner.register_hook(CurveHook())
    try:
        with trusting(arguments.trust):
            runner.train()
    except BaseException as error:
        progress.stop(runner)
        arguments.place = _how_far(runner)
        _leave_workers_alone()
        if isinstance(error, Interrupted) or runner.requests.saved_after_error:
            with surviving_streams():
                tell_how_to_go_on(runner, arguments)
        from footplate.cli.failures import raise_of_module

        raise_of_module(f"training, {arguments.place},", error, runner)
        raise
    with surviving_streams():
        _say_where(runner)
    return _tell_whether_saved(runner)


def _tell_whether_saved(runner: "Runner") -> int:
    """Returns the exit code of a finished run, and prints an error if its last save failed."""
    if runner.saver.lost is None:
        return 0
    last = f"the last checkpoint is {runner.saver.last}" if runner.saver.last else "there is no checkpoint of this run"
    say_error(f"error: trained to the end, but the last save failed: {runner.saver.lost}; {last}\n")
    return NOT_SAVED


def _explained(cfg: "Config", runner: "Runner") -> str:
    """Explains the config in its original generation; a resumed run may have changed its own copy."""
    from footplate.first_generation.translation import is_first_generation
    from footplate.tools.explain import explain_config

    return explain_config(cfg if is_first_generation(cfg) else runner.cfg)


def _name_changes(runner: "Runner", overrides: list[str]) -> None:
    """Logs the keys that differ from the config that the run in the work_dir started with."""
    from pathlib import Path

    from footplate.tools.diff import OF_A_START, compare
    from footplate.tools.run_files import config_of

    before = config_of(Path(runner.work_dir))
    if before is None:
        return
    changed = [each for each in compare(before, runner.cfg) if each.path not in OF_A_START]
    if not changed:
        return
    # Compares names too, since a value that equals the file's keeps its origin there.
    keys = [each.partition("=")[0].strip().lstrip("+") for each in overrides]
    given = [each.path for each in changed if each.path in keys or (each.second and each.second.origin in _GIVEN)]
    others = [each.path for each in changed if each.path not in given]
    told = [f"other values are given now for {list_names(given, _MOST_NAMED)}"] if given else []
    if others:
        told.append(
            f"these keys have other values than then: {list_names(others, _MOST_NAMED)}. "
            "Repeat each --set of the start when you resume"
        )
    with runner.buffered_log():
        runner.logger.warning("the run was begun with another config: %s", "; ".join(told))


def _how_far(runner: "Runner") -> str:
    """Returns the progress of a run, for an error of user code."""
    if not runner.is_built("train_loop"):
        return "before the first iteration"
    saved = f"; the last checkpoint is {runner.saver.last}" if runner.saver.last else ""
    return f"after {runner.iter} of {runner.max_iters} iterations{saved}"


def _let_early_wishes_pass() -> None:
    """Ignores signal requests to save before and after training, which would otherwise end the process."""
    if hasattr(signal, "SIGUSR1"):
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def _leave_workers_alone() -> None:
    """Stops torch from raising errors about workers that exit with the process, which would hide the real error."""
    if hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _apply(arguments: argparse.Namespace, cfg: "Config") -> None:
    """Writes the flags to the config, so that its dump is complete."""
    if arguments.resume is not None:
        cfg["resume"] = True
        cfg["load_from"] = None if arguments.resume == "auto" else arguments.resume
    if arguments.no_preflight or "preflight" not in cfg:
        cfg["preflight"] = not arguments.no_preflight
    if arguments.seed is not None:
        cfg["randomness"] = {**(cfg.get("randomness") or {}), "seed": arguments.seed}
    if arguments.amp:
        _use_mixed_precision(cfg)
    choose_launcher(arguments, cfg)


def _use_mixed_precision(cfg: "Config") -> None:
    from footplate.errors import ArgumentError
    from footplate.first_generation.translation import is_first_generation

    if is_first_generation(cfg):
        cfg["fp16"] = cfg.get("fp16") or {"loss_scale": "dynamic"}
        return
    wrapper = cfg.get("optim_wrapper")
    kind = (wrapper or {}).get("type", "OptimWrapper")
    if wrapper is None or kind not in ("OptimWrapper", "AmpOptimWrapper"):
        raise ArgumentError("--amp needs an optim_wrapper of type OptimWrapper", key="optim_wrapper.type", found=kind)
    wrapper["type"] = "AmpOptimWrapper"
    wrapper.setdefault("loss_scale", "dynamic")


def _say_where(runner: "Runner") -> None:
    """Prints the paths of log, checkpoints, curves and images, and the command that shows them."""
    if runner.rank:
        return
    from footplate import storage
    from footplate.hooks import CheckpointHook

    info = runner.message_hub.get_info
    best = [path for hook in runner.hooks if isinstance(hook, CheckpointHook) for path in hook.best_checkpoints]
    places = [
        ("log", f"{os.path.join(runner.log_dir, runner.timestamp)}.log"),
        ("last checkpoint", info("last_ckpt")),
        *(("best checkpoint", path) for path in best or [info("best_ckpt")]),
        ("curves", os.path.join(runner.log_dir, "curves.png")),
        ("pictures", os.path.join(runner.log_dir, "vis_data", "vis_image")),
    ]
    for name, path in places:
        # The folder of a finished run may be a copy, whose checkpoints name the original's files.
        here = storage.join(runner.checkpoint_dir, storage.base_name(path)) if path else ""
        path = here if here and storage.exists(here) else path
        if path and storage.exists(path):
            tell(name, path)
    tell_how_to_look(runner)
