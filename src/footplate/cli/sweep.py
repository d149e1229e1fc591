"""`footplate sweep`."""

import argparse
from typing import TYPE_CHECKING, Any

from footplate.cli.options import add_config, import_what_it_names, read_config
from footplate.cli.streams import say
from footplate.cli.sweep_display import SweepDisplay, settings_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from footplate.config import Config
    from footplate.tools.sweep.space import Parameter
    from footplate.tools.sweep.study import TrialInfo

_SHOWN = 10
_COMPARED = 8


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Adds the command to the parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "sweep",
        help="try many settings of a config and compare them",
        description="Try settings of a config, each in a run of its own, and compare them. A sweep that was "
        "interrupted goes on; no setting is tried twice; running out of memory is noted and goes on. Needs optuna: "
        "pip install 'footplate[sweep]'.",
    )
    add_config(parser)
    parser.add_argument(
        "--param",
        metavar="KEY=RANGE",
        nargs="+",
        action="extend",
        required=True,
        help="what is varied: KEY=LOW..HIGH, KEY=log:LOW..HIGH, KEY=A,B,C",
    )
    parser.add_argument("--metric", metavar="NAME", help="what trials are judged by: the config's save_best")
    parser.add_argument("--trials", metavar="N", type=int, default=20, help="how many, earlier ones included: 20")
    parser.add_argument("--workers", metavar="N", type=int, default=1, help="how many at a time: 1")
    parser.add_argument("--out", metavar="DIR", help="where study and trials lie: sweeps/<name of the config>")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of the choice of settings: 0")
    parser.add_argument("--no-prune", action="store_true", help="run every trial to its end")
    parser.add_argument("--retry", action="store_true", help="try only those that failed, once more")
    parser.set_defaults(run=run)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Runs a sweep and prints the best settings."""
    import os
    from pathlib import Path

    from footplate.checks import check_count
    from footplate.cli.launching import refuse_launchers
    from footplate.tools.sweep.space import parse_parameter

    refuse_launchers("sweep")
    check_count("--trials", arguments.trials)
    check_count("--workers", arguments.workers)
    check_count("--seed", arguments.seed, least=0)
    parameters = [parse_parameter(text) for text in arguments.param]
    cfg = read_config(arguments)
    from footplate.tools.sweep.study import SweepSettings, default_metric, sweep

    settings = SweepSettings(
        folder=os.path.abspath(arguments.out or str(Path("sweeps") / Path(str(cfg.filename)).stem)),
        metric=arguments.metric or default_metric(cfg),
        trials=arguments.trials,
        workers=arguments.workers,
        prune=not arguments.no_prune,
        retry=arguments.retry,
        seed=arguments.seed,
    )
    _refuse_what_no_trial_mends(cfg, parameters)
    try:
        with SweepDisplay(settings.metric, lambda trial: _words(trial, settings.metric)) as shown:
            trials = sweep(cfg, parameters, settings, prepare=import_what_it_names, say=shown.say, watch=shown.watch)
    except KeyboardInterrupt:
        say("the same command goes on with the sweep\n")
        raise
    _say_best(trials, settings.metric)
    _write_report(trials, settings.folder)
    return 0 if any(trial.state == "complete" for trial in trials) else 1


def _refuse_what_no_trial_mends(cfg: "Config", parameters: "Sequence[Parameter]") -> None:
    """Checks the config once before the sweep creates files, for errors that every trial would have."""
    from footplate.cli.options import choose_work_dir
    from footplate.engine.sections import check_config
    from footplate.errors import FootplateError
    from footplate.records.logger import collect_warnings
    from footplate.tools.sweep.study import first_of

    choose_work_dir(cfg, None)
    with collect_warnings():  # each trial logs its own
        try:
            check_config(first_of(cfg, parameters))
        except FootplateError:
            check_config(cfg)  # the config may be valid without the first values of the sweep


def _words(trial: "TrialInfo", metric: str) -> str:
    score = f"{metric} {trial.score:.6g}, " if trial.score is not None else ""
    note = f" ({trial.note})" if trial.note else ""
    return f"{score}{settings_of(trial.values)}, {trial.state}{note}"


def _say_best(trials: "list[TrialInfo]", metric: str) -> None:
    say("\nbest first:\n")
    for trial in trials[:_SHOWN]:
        say(f"  {trial.number:>3}  {_words(trial, metric)}\n       {trial.folder}\n")


def _write_report(trials: "list[TrialInfo]", folder: str) -> None:
    import os

    from footplate.errors import DataError
    from footplate.tools.report import write_report
    from footplate.tools.runs import read_run

    runs = {}
    for trial in trials:
        try:
            runs[f"{trial.number}: {settings_of(trial.values)}"] = read_run(trial.folder)
        except DataError:
            continue  # it ended before it logged any scalar
    if runs:
        path, shown = os.path.join(folder, "report.html"), list(runs)[:_COMPARED]
        title = f"the sweep {os.path.basename(folder)}"
        write_report([runs[name] for name in shown], path, names=shown, title=title)
        say(f"\ncompared in {path}\n")
