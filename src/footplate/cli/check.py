"""The command `footplate check`."""

import argparse
from typing import Any

from footplate.cli.arguments import add_config, add_no_patches, read_config, set_work_dir
from footplate.cli.launching import add_launcher, set_launcher, start_processes, starts_processes
from footplate.cli.output import print_result, print_text
from footplate.messages import labeled, wrap_text


def add_commands(subparsers: Any) -> None:
    """Adds the command to the parser."""
    parser = subparsers.add_parser(
        "check",
        help="try a run before it starts",
        description="Try a run on the real data: build everything, train two iterations, validate one batch, save and "
        "load. Then describe the run: parameter groups, speed, time, memory, schedule, metrics, hooks and warnings. "
        "Leaves no files.",
    )
    add_config(parser)
    parser.add_argument(
        "--work-dir", metavar="DIR", help="the work_dir of the run (default: work_dirs/<name of the config>)"
    )
    parser.add_argument("--no-run", action="store_true", help="check only the config, without reading data or weights")
    add_launcher(parser)
    add_no_patches(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Checks a config with a short trial and prints the summary."""
    from footplate.cli.error_messages import user_frames
    from footplate.distributed import rank_from_environment
    from footplate.records.logger import collect_warnings
    from footplate.tools.automatic_batch_size import choose_batch_size, without_automatic_size
    from footplate.tools.check import check
    from footplate.tools.failing_module import TrialError

    cfg = read_config(arguments)
    set_work_dir(cfg, arguments.work_dir)
    set_launcher(arguments, cfg)
    if starts_processes(arguments):
        return start_processes(arguments, cfg)
    with collect_warnings() as warnings:
        try:
            cfg, note = (without_automatic_size(cfg), "") if arguments.no_run else choose_batch_size(cfg)
            checked = check(cfg, run=not arguments.no_run)
        except TrialError as error:
            arguments.progress = f"failed stage: {error.stage}"
            if error.__cause__ is not None and user_frames(error.__cause__):
                raise error.__cause__ from None  # shows the user's lines, as `train` does
            raise
        finally:
            if not rank_from_environment():
                print_text("".join(wrap_text(labeled("warning", each) + "\n") for each in warnings))
    if not rank_from_environment():
        data = {"warnings": checked.warnings, "loops": checked.loops, "measured": checked.measured}
        text = checked.text + (labeled("batch size", note) + "\n" if note else "")
        print_result(arguments, data, wrap_text(text))
    return 0
