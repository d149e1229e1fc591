"""Implements the command `footplate sweep`."""

import os
import shlex
import sys
from argparse import Namespace
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from footplate.cli.arguments import add_command, add_config, number
from footplate.cli.config_arguments import read_run_config
from footplate.cli.output import print_held_warnings, print_result, print_text
from footplate.errors import ArgumentError, DataError
from footplate.interrupts import raising_stop_signals

if TYPE_CHECKING:
    from collections.abc import Mapping

    from footplate.config import Config
    from footplate.tools.sweep import Sweep, TrialInfo

_MAX_PRINTED = 10
_MAX_COMPARED = 8


def add_commands(subparsers: Any) -> None:
    """Adds the command to the parser."""
    parser = add_command(
        subparsers,
        "sweep",
        run,
        "try several settings of a config and compare them",
        "Train a config with different settings, each in its own run, and compare the results. To "
        "continue a sweep and rerun failed trials, repeat the command; completed trials are kept. A trial that runs "
        "out of memory does not stop the sweep. Requires optuna: pip install 'footplate[sweep]'.",
        "footplate sweep config.py --param optim_wrapper.optimizer.lr=log:1e-4..1e-2 --trials 10",
    )
    add_config(parser)
    parser.add_value(
        "--param",
        "KEY=RANGE",
        "the keys to vary: KEY=LOW..HIGH, KEY=log:LOW..HIGH or KEY=A,B,C",
        nargs="+",
        action="extend",
        required=True,
    )
    parser.add_value("--metric", "NAME", "the metric to optimize (default: the config's save_best)")
    for flag, default, least, text in (
        ("--trials", 20, 1, "the number of trials, including earlier ones"),
        ("--workers", 1, 1, "the number of parallel trials"),
        ("--seed", 0, 0, "the seed for the sampler, and for the trials if the config does not set one"),
    ):
        parser.add_value(flag, "N", f"{text} (default: {default})", type=number(int, least), default=default)
    parser.add_value("--out", "DIR", "the sweep folder (default: sweeps/<config name>)")
    parser.add_flag("--no-prune", "run every trial to the end")


def run(arguments: Namespace) -> int:
    """Runs a sweep and prints the best settings. Returns 1 if no trial was completed."""
    from footplate.tools.sweep_space import parse_parameter, with_values

    parameters = [parse_parameter(text) for text in arguments.param]
    cfg = read_run_config(arguments)
    from footplate.engine.run_config import check_config
    from footplate.tools.analysis import best_metrics
    from footplate.tools.collected_warnings import collect_warnings
    from footplate.tools.sweep import OUTPUT, Sweep, TrialInfo

    chosen = (name for name in best_metrics(cfg._cfg_dict) if name != "auto")
    metric = arguments.metric or next(chosen, None)
    if metric is None:
        message = "the metric is unknown, because save_best is missing or 'auto'"
        raise ArgumentError(message, notes=["Add --metric NAME."])
    with collect_warnings():  # checks once, before creating files; each trial logs its own warnings
        check_config(with_values(cfg, {parameter.key: parameter.values[0] for parameter in parameters}))
    print_held_warnings(arguments)

    def print_trial(trial: TrialInfo) -> None:
        if trial.state == "running":
            log = os.path.join(os.path.relpath(trial.folder), OUTPUT)
            print_text(f"trial {trial.number} started: {_short_values(trial.values)}; log: {log}\n")
        else:
            print_text(f"trial {trial.number}: {_describe(trial, sweep.metric)}\n")
        sys.stdout.flush()

    sweep = Sweep(
        cfg,
        parameters,
        lambda values: _train_command(arguments, cfg, values),
        folder=os.path.abspath(arguments.out or str(Path("sweeps") / Path(str(cfg.filename)).stem)),
        metric=metric,
        trials=arguments.trials,
        workers=arguments.workers,
        prune=not arguments.no_prune,
        seed=arguments.seed,
        on_change=print_trial,
    )
    try:
        with raising_stop_signals(True):
            trials = sweep.run()
    except KeyboardInterrupt:
        print_text("To continue the sweep, run the same command again.\n")
        raise
    text = "\nbest first:\n"
    for trial in trials[:_MAX_PRINTED]:
        text += f"  {trial.number:>3}  {_describe(trial, sweep.metric)}\n       {trial.folder}\n"
    report = _write_report(sweep, trials)
    text += f"\nreport: {report}\n" if report else ""
    print_result(arguments, {"metric": sweep.metric, "trials": trials, "report": report}, text)
    return 0 if any(trial.state == "complete" for trial in trials) else 1


def _train_command(arguments: Namespace, cfg: "Config", values: "Mapping[str, Any]") -> list[str]:
    """Returns the `footplate` arguments for training with a trial's settings.

    If the config has no seed, adds one that is the same for all trials, so that they differ only in their settings.
    """
    from footplate.tools.sweep_space import overrides_of

    command = ["train", arguments.config]
    if arguments.cfg_options:
        command += ["--cfg-options", *arguments.cfg_options]
    if cfg.get("seed") is None and (cfg.get("randomness") or {}).get("seed") is None:
        command += ["--seed", str(arguments.seed)]
    return [*command, "--set", *arguments.set, *overrides_of(values)]


def _write_report(sweep: "Sweep", trials: "list[TrialInfo]") -> str | None:
    """Writes a report that lists all trials and compares the best ones.

    Returns the path of the report, or None if no trial logged any scalars.
    """
    from footplate.tools.report import write_report
    from footplate.tools.report_overview import sweep_data
    from footplate.tools.runs import read_run

    runs = {}
    for trial in trials:
        with suppress(DataError):  # it ended before it logged any scalar
            runs[f"trial {trial.number}"] = read_run(os.path.relpath(trial.folder))
    if not runs:
        return None
    best = os.path.relpath(os.path.join(sweep.folder, "best"))
    command = shlex.join(["footplate", *sweep.command(trials[0].values), "--work-dir", best])
    path, names = os.path.join(sweep.folder, "report.html"), list(runs)[:_MAX_COMPARED]
    data = sweep_data(sweep.metric, trials, command)
    name = os.path.basename(sweep.folder)
    title = name if "sweep" in name.lower() else f"Sweep {name}"
    write_report([runs[name] for name in names], path, names=names, title=title, sweep=data)
    return path


def _describe(trial: "TrialInfo", metric: str) -> str:
    score = f"{metric} {trial.score:.6g}, " if trial.score is not None else ""
    note = f" ({trial.note})" if trial.note else ""
    return f"{score}{_short_values(trial.values)}, {trial.state}{note}"


def _short_values(values: dict[str, Any]) -> str:
    """Formats a trial's settings. Shortens each key to its last part."""
    return ", ".join(
        f"{key.rpartition('.')[2]}={f'{value:.4g}' if isinstance(value, float) else value}"
        for key, value in values.items()
    )
