"""`footplate check`."""

import argparse
from typing import TYPE_CHECKING, Any

from footplate.cli.launching import add_launcher, choose_launcher, start_processes, starts_processes
from footplate.cli.options import add_config, choose_work_dir, read_config
from footplate.cli.streams import say
from footplate.wrap import wrap_text

if TYPE_CHECKING:
    from footplate.config import Config


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Adds the command to the parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "check",
        help="try a run before it starts",
        description="Build everything, train two iterations, validate a batch, save and load, on the real data; then "
        "tell what the run will do: groups, speed, time, memory, schedule, metrics, hooks, warnings. Nothing is left.",
    )
    add_config(parser)
    parser.add_argument("--work-dir", metavar="DIR", help="where the run would write")
    parser.add_argument("--no-run", action="store_true", help="stop before data and weights are touched")
    add_launcher(parser)
    parser.set_defaults(run=run)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Checks a run and prints the summary."""
    from footplate.distributed import rank_from_environment

    cfg = read_config(arguments)
    choose_work_dir(cfg, arguments.work_dir)
    choose_launcher(arguments, cfg)
    if starts_processes(arguments):
        return start_processes(arguments, cfg)
    told = _check(cfg, arguments)
    if not rank_from_environment():
        say(wrap_text(told))
    return 0


def _check(cfg: "Config", arguments: argparse.Namespace) -> str:
    """Returns the summary; raises errors of user code themselves, so that their lines are shown as in `train`."""
    from footplate.cli.failures import own_frames
    from footplate.distributed import rank_from_environment
    from footplate.records.logger import collect_warnings
    from footplate.tools.check import check
    from footplate.tools.failing_module import TrialError

    with collect_warnings() as warnings:
        try:
            return check(cfg, run=not arguments.no_run)
        except TrialError as error:
            arguments.place = f"tried: {error.stage}"
            if error.__cause__ is not None and own_frames(error.__cause__):
                raise error.__cause__ from None
            raise
        finally:
            if not rank_from_environment():
                say("".join(wrap_text(f"{'warning':<11} {each}\n") for each in warnings))
