"""The command `footplate sweep`, and the live display of its trials."""

import argparse
import os
import shlex
import sys
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from footplate.cli.arguments import add_config, add_no_patches, read_config, set_work_dir
from footplate.cli.output import print_result, print_text

if TYPE_CHECKING:
    from footplate.hooks.live_display import LiveTerminal
    from footplate.tools.sweep import SweepSettings, TrialInfo, TrialProgress

_MAX_PRINTED = 10
_MAX_COMPARED = 8
_BAR_WIDTH = 20


def add_commands(subparsers: Any) -> None:
    """Adds the command to the parser."""
    parser = subparsers.add_parser(
        "sweep",
        help="try several settings of a config and compare them",
        description="Train a config with different settings, each in its own run, and compare the results. The same "
        "command continues an interrupted sweep; no setting is tried twice. A trial that runs out of memory does not "
        "stop the sweep. Needs optuna: pip install 'footplate[sweep]'.",
        epilog="Example: footplate sweep config.py --param optim_wrapper.optimizer.lr=log:1e-4..1e-2 --trials 10",
    )
    add_config(parser)
    parser.add_argument(
        "--param",
        metavar="KEY=RANGE",
        nargs="+",
        action="extend",
        required=True,
        help="the keys to vary: KEY=LOW..HIGH, KEY=log:LOW..HIGH or KEY=A,B,C",
    )
    parser.add_argument("--metric", metavar="NAME", help="the metric to optimize (default: the config's save_best)")
    parser.add_argument(
        "--trials", metavar="N", type=int, default=20, help="the number of trials, including earlier ones (default: 20)"
    )
    parser.add_argument(
        "--workers", metavar="N", type=int, default=1, help="the number of parallel trials (default: 1)"
    )
    parser.add_argument(
        "--out", metavar="DIR", help="the folder for the study and the trials (default: sweeps/<name of the config>)"
    )
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="the seed of the sampler (default: 0)")
    parser.add_argument("--no-prune", action="store_true", help="run every trial to its end")
    parser.add_argument("--retry", action="store_true", help="rerun only the failed trials")
    parser.add_argument(
        "--keep-best",
        action="store_true",
        help="write a ledger of all trials and keep only the checkpoints of the best one",
    )
    add_no_patches(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs a sweep and prints the best settings."""
    from pathlib import Path

    from footplate.checks import check_count
    from footplate.errors import ArgumentError, FootplateError
    from footplate.tools.sweep_space import first_values, parse_parameter, with_values

    if "LOCAL_RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1":
        raise ArgumentError("footplate sweep must run in a single process", notes=["Start it without torchrun."])
    check_count("--trials", arguments.trials)
    check_count("--workers", arguments.workers)
    check_count("--seed", arguments.seed, least=0)
    parameters = [parse_parameter(text) for text in arguments.param]
    cfg = read_config(arguments)
    from footplate.engine.run_config import check_config
    from footplate.hosts import import_modules
    from footplate.records.logger import collect_warnings
    from footplate.tools.sweep import SweepSettings, default_metric, sweep

    settings = SweepSettings(
        folder=os.path.abspath(arguments.out or str(Path("sweeps") / Path(str(cfg.filename)).stem)),
        metric=arguments.metric or default_metric(cfg),
        trials=arguments.trials,
        workers=arguments.workers,
        prune=not arguments.no_prune,
        retry=arguments.retry,
        seed=arguments.seed,
        keep_best=arguments.keep_best,
    )
    set_work_dir(cfg, None)
    with collect_warnings():  # checks once, before creating files; each trial logs its own warnings
        try:
            check_config(with_values(cfg, first_values(parameters)))
        except FootplateError:
            check_config(cfg)  # the config may be valid without the first values of the sweep
    try:
        with SweepDisplay(settings.metric) as display:
            trials = sweep(
                cfg,
                parameters,
                settings,
                prepare=partial(import_modules, patches=not arguments.no_patches),
                on_end=display.print_trial,
                on_progress=display.update,
            )
    except KeyboardInterrupt:
        print_text("To continue the sweep, run the same command again.\n")
        raise
    text = "\nbest first:\n"
    for trial in trials[:_MAX_PRINTED]:
        text += f"  {trial.number:>3}  {_describe(trial, settings.metric)}\n       {trial.folder}\n"
    report = _write_report(trials, settings, arguments)
    text += f"\nreport: {report}\n" if report else ""
    ledger = os.path.join(settings.folder, "ledger.md") if arguments.keep_best else None
    text += f"ledger: {ledger}\n" if ledger else ""
    result = {"metric": settings.metric, "trials": trials, "report": report, "ledger": ledger}
    print_result(arguments, result, text)
    return 0 if any(trial.state == "complete" for trial in trials) else 1


def _write_report(trials: "list[TrialInfo]", settings: "SweepSettings", arguments: argparse.Namespace) -> str | None:
    """Writes a report that lists all trials, compares the runs of the best ones, and shows how to train the best one.

    Returns:
        The path of the report, or None if no trial has logged anything.
    """
    from footplate.errors import DataError
    from footplate.tools.report import write_report
    from footplate.tools.report_overview import SweepSummary
    from footplate.tools.runs import read_run
    from footplate.tools.sweep_space import overrides_of

    runs = {}
    for trial in trials:
        with suppress(DataError):  # it ended before it logged any scalar
            runs[f"trial {trial.number}"] = read_run(trial.folder)
    if not runs:
        return None
    command = ["footplate", "train", arguments.config]
    if arguments.cfg_options:
        command += ["--cfg-options", *arguments.cfg_options]
    # The searched keys come first. A later `--set` of the same key or of a parent would replace their values.
    best, given = trials[0].values, [text.partition("=")[0] for text in arguments.set]
    replaced = any(f"{key}.".startswith(f"{name}.") for key in best for name in given)
    searched, others = overrides_of(best), list(arguments.set)
    command += ["--set", *(others + searched if replaced else searched + others)]
    path, shown = os.path.join(settings.folder, "report.html"), list(runs)[:_MAX_COMPARED]
    name = os.path.basename(settings.folder)
    title = name if name.lower().startswith("sweep") else f"Sweep {name}"
    summary = SweepSummary(settings.metric, trials, shlex.join(command))
    write_report([runs[each] for each in shown], path, names=shown, title=title, sweep=summary)
    return path


class SweepDisplay:
    """Shows the progress of trials. As a context manager, restores the terminal at the end.

    On a terminal, each running trial has a line that is updated. Otherwise, a line is printed when a trial starts.
    Parallel trials call the methods from their own threads.

    Args:
        metric: The metric that the sweep optimizes.
    """

    def __init__(self, metric: str) -> None:
        self._metric = metric
        self._running: dict[int, TrialProgress] = {}
        self._lock = threading.Lock()
        self._live: LiveTerminal | None = None

    def __enter__(self) -> "SweepDisplay":
        if sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
            from footplate.hooks.live_display import LiveTerminal

            self._live = LiveTerminal(sys.stdout)
            self._live.open()
        return self

    def __exit__(self, *error: object) -> None:
        with self._lock:
            if self._live is not None:
                self._live.show([])
                self._live.close()
                self._live = None

    def update(self, progress: "TrialProgress") -> None:
        """Updates the progress of a trial."""
        from footplate.tools.sweep_trial import OUTPUT

        with self._lock:
            if self._live is None and progress.number not in self._running:
                log = os.path.join(os.path.relpath(progress.folder), OUTPUT)
                print_text(f"trial {progress.number} starts: {_short_values(progress.values)}; its log: {log}\n")
                sys.stdout.flush()
            self._running[progress.number] = progress
            self._draw()

    def print_trial(self, trial: "TrialInfo") -> None:
        """Prints a finished trial."""
        with self._lock:
            self._running.pop(trial.number, None)
            self._draw()
            print_text(f"trial {trial.number}: {_describe(trial, self._metric)}\n")
            sys.stdout.flush()

    def _draw(self) -> None:
        if self._live is None:
            return
        from rich.text import Text

        from footplate.hooks.progress_lines import progress_bar

        lines = []
        for each in self._running.values():
            done = f"{each.done}/{each.length}" if each.length else "starting"
            score = "" if each.score is None else f"  {self._metric} {each.score:.4g}"
            progress = progress_bar(each.done, each.length or 1, _BAR_WIDTH)
            lines.append(
                Text.assemble(f"trial {each.number} ", progress, f" {done}{score}  {_short_values(each.values)}")
            )
        self._live.show(lines)


def _describe(trial: "TrialInfo", metric: str) -> str:
    score = f"{metric} {trial.score:.6g}, " if trial.score is not None else ""
    note = f" ({trial.note})" if trial.note else ""
    return f"{score}{_short_values(trial.values)}, {trial.state}{note}"


def _short_values(values: dict[str, Any]) -> str:
    """Returns the settings of a trial as text, with only the last part of each key."""
    return ", ".join(
        f"{key.rpartition('.')[2]}={f'{value:.4g}' if isinstance(value, float) else value}"
        for key, value in values.items()
    )
