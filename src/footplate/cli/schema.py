"""The command `footplate schema`."""

import argparse
import json
from typing import Any

from footplate.cli.output import as_json, print_json, print_result


def add_commands(subparsers: Any) -> None:
    """Adds the command to the parser."""
    parser = subparsers.add_parser(
        "schema",
        help="print the JSON schema of config keys",
        description="Print the JSON schema (draft 2020-12) of second-generation configs: every section and every "
        "registered class with its keys, types, defaults and descriptions. Editors complete and check keys with it.",
        epilog="Example: footplate schema --output footplate.schema.json",
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="write the schema to a file instead")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Prints the schema, or writes it to a file."""
    from footplate.storage import check_output, commit_bytes
    from footplate.tools.config_schema import config_schema

    if arguments.output:
        check_output(arguments.output, suffixes=(".json",))
        text = json.dumps(as_json(config_schema()), indent=2) + "\n"
        commit_bytes(arguments.output, text.encode())
        print_result(arguments, {"file": arguments.output}, f"{arguments.output}\n")
    else:
        print_json(arguments, config_schema())
    return 0
