"""The command `footplate sweep`."""

import argparse
import os
import shlex
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from footplate.cli.arguments import add_config, add_no_patches
from footplate.cli.config import read_run_config
from footplate.cli.output import print_result, print_text
from footplate.interrupts import raising_stop_signals

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from footplate.config import Config
    from footplate.tools.sweep import SweepSettings, TrialInfo

_MAX_PRINTED = 10
_MAX_COMPARED = 8


def add_commands(subparsers: Any) -> None:
    """Adds the command to the parser."""
    parser = subparsers.add_parser(
        "sweep",
        help="try several settings of a config and compare them",
        description="Train a config with different settings, each in its own run, and compare the results. The same "
        "command continues an interrupted sweep; no setting is trained twice. A trial that runs out of memory does not "
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
    parser.add_argument(
        "--seed",
        metavar="N",
        type=int,
        default=0,
        help="the seed of the sampler, and of the trials if the config has none (default: 0)",
    )
    parser.add_argument("--no-prune", action="store_true", help="run every trial to its end")
    parser.add_argument("--retry", action="store_true", help="rerun only the failed trials")
    add_no_patches(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs a sweep and prints the best settings."""
    from collections.abc import Mapping
    from pathlib import Path

    from footplate.checks import check_count
    from footplate.errors import ArgumentError
    from footplate.tools.sweep_space import first_values, parse_parameter, with_values

    if "LOCAL_RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1":
        raise ArgumentError("footplate sweep must run in a single process", notes=["Start it without torchrun."])
    check_count("--trials", arguments.trials)
    check_count("--workers", arguments.workers)
    check_count("--seed", arguments.seed, least=0)
    parameters = [parse_parameter(text) for text in arguments.param]
    cfg = read_run_config(arguments)
    from footplate.engine.run_config import check_config
    from footplate.records.logger import collect_warnings
    from footplate.tools.sweep import OUTPUT, SweepSettings, TrialInfo, default_metric, sweep

    settings = SweepSettings(
        folder=os.path.abspath(arguments.out or str(Path("sweeps") / Path(str(cfg.filename)).stem)),
        metric=arguments.metric or default_metric(cfg),
        trials=arguments.trials,
        workers=arguments.workers,
        prune=not arguments.no_prune,
        retry=arguments.retry,
        seed=arguments.seed,
    )
    with collect_warnings():  # checks once, before creating files; each trial logs its own warnings
        check_config(with_values(cfg, first_values(parameters)))

    def print_trial(trial: TrialInfo) -> None:
        if trial.state == "running":
            log = os.path.join(os.path.relpath(trial.folder), OUTPUT)
            print_text(f"trial {trial.number} starts: {_short_values(trial.values)}; its log: {log}\n")
        else:
            print_text(f"trial {trial.number}: {_describe(trial, settings.metric)}\n")
        sys.stdout.flush()

    def command(values: Mapping[str, Any]) -> list[str]:
        return _train_command(arguments, with_values(cfg, values), values)

    try:
        with raising_stop_signals(True):
            run_module = [sys.executable, "-m", "footplate"]
            trials = sweep(
                cfg, parameters, settings, lambda values: run_module + command(values), on_change=print_trial
            )
    except KeyboardInterrupt:
        print_text("To continue the sweep, run the same command again.\n")
        raise
    text = "\nbest first:\n"
    for trial in trials[:_MAX_PRINTED]:
        text += f"  {trial.number:>3}  {_describe(trial, settings.metric)}\n       {trial.folder}\n"
    report = _write_report(trials, settings, command)
    text += f"\nreport: {report}\n" if report else ""
    print_result(arguments, {"metric": settings.metric, "trials": trials, "report": report}, text)
    return 0 if any(trial.state == "complete" for trial in trials) else 1


def _train_command(arguments: argparse.Namespace, cfg: "Config", values: "Mapping[str, Any]") -> list[str]:
    """Returns the command that trains with the values of a trial, without the name of the program.

    Trials whose config has no seed share one, so that they differ only in their settings.
    """
    from footplate.tools.sweep_space import overrides_of

    command = ["train", arguments.config, *(["--no-patches"] if arguments.no_patches else [])]
    if arguments.cfg_options:
        command += ["--cfg-options", *arguments.cfg_options]
    if cfg.get("seed") is None and (cfg.get("randomness") or {}).get("seed") is None:
        command += ["--seed", str(arguments.seed)]
    return [*command, "--set", *arguments.set, *overrides_of(values)]


def _write_report(
    trials: "list[TrialInfo]", settings: "SweepSettings", command: "Callable[[Mapping[str, Any]], list[str]]"
) -> str | None:
    """Writes a report that lists all trials, compares the runs of the best ones, and shows how to train the best one.

    Returns:
        The path of the report, or None if no trial has logged anything.
    """
    from footplate.errors import DataError
    from footplate.tools.report import write_report
    from footplate.tools.report_overview import SweepSummary
    from footplate.tools.runs import read_run

    runs = {}
    for trial in trials:
        with suppress(DataError):  # it ended before it logged any scalar
            runs[f"trial {trial.number}"] = read_run(trial.folder)
    if not runs:
        return None
    best = [
        "footplate",
        *command(trials[0].values),
        "--work-dir",
        os.path.relpath(os.path.join(settings.folder, "best")),
    ]
    path, shown = os.path.join(settings.folder, "report.html"), list(runs)[:_MAX_COMPARED]
    name = os.path.basename(settings.folder)
    title = name if name.lower().startswith("sweep") else f"Sweep {name}"
    summary = SweepSummary(settings.metric, trials, shlex.join(best))
    write_report([runs[each] for each in shown], path, names=shown, title=title, sweep=summary)
    return path


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
