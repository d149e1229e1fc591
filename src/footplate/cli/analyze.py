"""`footplate analyze`."""

import argparse
from typing import Any

from footplate.cli.options import PICTURE_SUFFIXES
from footplate.cli.streams import say
from footplate.wrap import wrap_for_screen


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Adds the command to the parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "analyze",
        help="show times, best values and curves of runs",
        description="Show the time, last and best values and checkpoints of runs; several are compared. Reads the "
        "work_dirs and the scalar files of this engine and of both reference engines.",
    )
    parser.add_argument("runs", metavar="WORK_DIR", nargs="+", help="a work_dir, or a scalars.json or .log.json file")
    parser.add_argument("--keys", metavar="NAME", nargs="+", default=[], help="the scalars of --plot and --csv")
    parser.add_argument("--plot", metavar="FILE", help="write the curves as a picture")
    parser.add_argument("--csv", metavar="FILE", help="write the curves as a table; - is the terminal")
    parser.add_argument("--json", action="store_true", help="the figures as JSON")
    parser.set_defaults(run=run)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Prints the summaries of runs and writes their curves."""
    import json
    import os
    from pathlib import Path

    from footplate.storage import check_output, commit_bytes, commit_image
    from footplate.tools import analysis
    from footplate.tools.runs import read_run

    files = [path for path in arguments.runs if os.path.isfile(path)]
    if arguments.csv and arguments.csv != "-":
        check_output(arguments.csv, suffixes=(".csv", ".txt"), inputs=files)
    if arguments.plot:
        check_output(arguments.plot, suffixes=PICTURE_SUFFIXES, inputs=files)
    runs = [read_run(path) for path in arguments.runs]
    if arguments.plot:
        commit_image(arguments.plot, analysis.plot_curves(runs, arguments.keys))
    if arguments.csv:
        table = analysis.curves_as_csv(runs, arguments.keys)
        if arguments.csv == "-":
            say(table)
            return 0
        written = table.encode(errors="backslashreplace")
        if os.path.exists(arguments.csv) and not os.path.isfile(arguments.csv):  # such as /dev/stdout
            Path(arguments.csv).write_bytes(written)
        else:
            commit_bytes(arguments.csv, written)
    if arguments.json:
        figures = {str(each.folder): analysis.summarize(each) for each in runs}
        say(json.dumps(figures, indent=2) + "\n")
    else:
        say(wrap_for_screen(analysis.explain_runs(runs)))
    return 0
