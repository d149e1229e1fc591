"""`footplate explain`."""

import argparse
import sys
from typing import Any

from footplate.cli.options import add_config


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Adds the command."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "explain",
        help="show a resolved config and where each key was written",
        description="Show the resolved config with the file and line of every key, or how one key came to its value. "
        "Nothing that the config names is imported.",
    )
    add_config(parser)
    parser.add_argument("key", metavar="KEY", nargs="?", help="a key path, such as optim_wrapper.optimizer.lr")
    parser.add_argument(
        "--dump", metavar="FILE", help="write the resolved config as one .py, .json, .yaml or .toml file instead"
    )
    parser.set_defaults(run=run)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Explains, or writes the one-file form."""
    from footplate.cli.options import read_config
    from footplate.inspection.explain import explain_config, explain_key

    cfg = read_config(arguments, import_custom_modules=False)
    if arguments.dump:
        cfg.dump(arguments.dump)
        return 0
    sys.stdout.write(explain_key(cfg, arguments.key) if arguments.key else explain_config(cfg))
    return 0
