"""Implements the command `footplate check`."""

from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from footplate.cli.arguments import add_command, add_config, number
from footplate.cli.config_arguments import read_run_config
from footplate.cli.launching import add_launcher, count_processes, is_first_rank, start_processes
from footplate.cli.output import print_result, print_text, wrap_text
from footplate.launchers import is_launched
from footplate.messages import DIM, GREEN, labeled

if TYPE_CHECKING:
    from footplate.engine import Runner
    from footplate.testing import ResumeReport

_LABEL = r"^[a-z]+(?: [a-z]+)*(?=  )"
_SIZES = (
    ("iterations", "N", 12, "the length of the run, in about three epochs"),
    ("kills", "N", 3, "how often the run is killed"),
    ("minutes", "N", 10, "the maximum time"),
)


def add_commands(subparsers: Any) -> None:
    """Adds the command to the parser."""
    check = add_command(
        subparsers,
        "check",
        check_run,
        "check a run with a short trial before you start it",
        "Do a trial run on the real data: build everything, train two iterations, validate one batch, save "
        "and load. Then describe the run: parameter groups, speed, time, memory, schedule, metrics, hooks and "
        "warnings. Keep only an image of the first training batch, in the work_dir.",
    )
    add_config(check)
    check.add_value("--work-dir", "DIR", "the work_dir of the run (default: the config's, or work_dirs/<config name>)")
    check.add_flag("--no-run", "check only the config and build the model, without reading data")
    check.add_flag("--resume", "also kill and resume a short run, and compare it with an uninterrupted one")
    for name, metavar, default, text in _SIZES:
        text = f"with --resume: {text} (default: {default})"
        check.add_value(f"--{name}", metavar, text, type=number(int, 1), default=default)
    add_launcher(check)


@contextmanager
def _listing_library_warnings() -> Iterator[dict[str, None]]:
    """Collects the Python warnings of the block, and lists them at its end, also if it fails."""
    from footplate.tools.collected_warnings import collect_library_warnings

    with collect_library_warnings() as collected:
        try:
            yield collected
        finally:
            if is_first_rank():
                lines = "".join(wrap_text(labeled("library", warning) + "\n") for warning in collected)
                print_text(lines, (_LABEL, DIM))


def check_run(arguments: Namespace) -> int:
    """Checks a config, also with a short trial unless `--no-run` is given, and prints the summary."""
    from rich.console import Console

    from footplate.cli.error_messages import user_frames
    from footplate.tools.check import check
    from footplate.tools.collected_warnings import collect_warnings
    from footplate.tools.failing_module import ComponentError

    with _listing_library_warnings() as library_warnings:
        cfg = read_run_config(arguments)
        code = start_processes(arguments)
        if code is not None:
            library_warnings.clear()  # the first rank lists them
            if code == 0 and arguments.resume:
                report = _check_resume(arguments, count_processes(arguments) or 1)
                print_result(arguments, {"resume": report._asdict()}, wrap_text(labeled("resume", report) + "\n"))
            return code
        with collect_warnings() as warnings:
            try:
                stages = "Checking the config" if arguments.no_run else "Training, validating and saving once"
                with Console(stderr=True, quiet=not is_first_rank()).status(stages):
                    checked = check(cfg, run=not arguments.no_run)
            except ComponentError as error:
                arguments.progress = f"failed stage: {error.stage}"
                if error.__cause__ is not None and user_frames(error.__cause__):
                    raise error.__cause__ from None  # shows the user's lines, as `train` does
                raise
            finally:
                if is_first_rank():
                    print_text("".join(wrap_text(labeled("warning", each) + "\n") for each in warnings))
        if is_first_rank():
            data = {"warnings": checked.warnings, "loops": checked.loops, "measured": checked.measured}
            text = checked.text
            if arguments.resume and not is_launched():  # otherwise, the process that started the ranks does it
                report = _check_resume(arguments, 1)
                data["resume"] = report._asdict()
                text += labeled("resume", report) + "\n"
            print_result(arguments, data, wrap_text(text), ("no problems found", GREEN), (_LABEL, DIM))
    return 0


def _check_resume(arguments: Namespace, processes: int) -> "ResumeReport":
    """Kills and resumes a shortened run, and shows what it does."""
    from rich.console import Console

    from footplate.testing import check_resume

    options = {name: getattr(arguments, name) for name in ("config", "set", "cfg_options", "cpu", "iterations")}
    with Console(stderr=True).status("Checking the resume") as status:
        return check_resume(
            partial(_build_short, Namespace(**options)),
            kills=arguments.kills,
            processes=processes,
            timeout=60.0 * arguments.minutes,
            on_stage=status.update,
        )


def _build_short(options: Namespace, work_dir: str) -> "Runner":
    """Builds a short run with the options of the command. Called in the processes of the check."""
    from footplate.engine.plan.plan import RunPlan
    from footplate.tools.trial import build_trial, shorten

    plan = RunPlan.from_config(read_run_config(options))
    return build_trial(shorten(plan.cfg, options.iterations), work_dir, resume="auto")
