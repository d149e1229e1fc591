"""`footplate report`."""

import argparse
from typing import Any

from footplate.cli.streams import say


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Adds the command to the parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "report",
        help="write runs as one page to look at and to hand on",
        description="Write one HTML file with summary, curves, pictures, classes, config, environment and warnings. "
        "It needs no network and no other file. Several work_dirs are compared side by side.",
    )
    parser.add_argument("runs", metavar="WORK_DIR", nargs="+", help="a work_dir, or a scalars.json or .log.json file")
    parser.add_argument("-o", "--out", metavar="FILE", help="where the page goes: WORK_DIR/report.html, or report.html")
    parser.set_defaults(run=run)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Writes the report and prints its path."""
    import os

    from footplate.messages import format_bytes
    from footplate.storage import check_output
    from footplate.tools.report import write_report
    from footplate.tools.runs import read_run

    alone = len(arguments.runs) == 1 and os.path.isdir(arguments.runs[0])
    path = arguments.out or (os.path.join(arguments.runs[0], "report.html") if alone else "report.html")
    check_output(path, suffixes=(".html", ".htm"), inputs=filter(os.path.isfile, arguments.runs))
    runs = [read_run(each) for each in arguments.runs]
    size = write_report(runs, path)
    say(f"{path}, {format_bytes(size)}\n")
    return 0
