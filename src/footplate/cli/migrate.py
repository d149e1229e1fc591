"""The command `footplate migrate`."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from footplate.cli.output import print_result
from footplate.messages import pluralize

if TYPE_CHECKING:
    from footplate.openmmlab.first_generation.rewriting.migrate import MigratedFile

_PACKAGE = Path(os.path.realpath(__file__)).parents[1]
_REPORT = "migration-report.txt"


def add_commands(subparsers: Any) -> None:
    """Adds the command to the parser."""
    parser = subparsers.add_parser(
        "migrate",
        help="convert first-generation configs to the second generation",
        description="Convert a first-generation config, or a folder of configs, to the second generation. Base files "
        "and comments are kept. A report lists the new form of each key and the points that you need to check.",
        epilog="Example: footplate migrate old.py --output new.py",
    )
    parser.add_argument("config", metavar="OLD.py", nargs="?", help="a config file or the name of a recipe")
    parser.add_argument("-o", "--output", metavar="NEW.py", help="the new file (default: OLD_migrated.py)")
    parser.add_argument(
        "--tree",
        metavar="DIR",
        help="convert all .py configs in DIR and write them to --output (default: DIR_migrated)",
    )
    dry = parser.add_mutually_exclusive_group()
    dry.add_argument("--diff", action="store_true", help="show the changes without writing files")
    dry.add_argument("--lint", action="store_true", help="print the report without writing files")
    parser.add_argument("--force", action="store_true", help="replace existing files")
    parser.add_argument("--rules", action="store_true", help="show the rules, each with an example")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Migrates configs, or shows what would change."""
    from footplate.config.sources import find_config
    from footplate.errors import ArgumentError
    from footplate.openmmlab.first_generation.rewriting.migrate import (
        migrate_file,
        migrate_tree,
        write_files,
    )
    from footplate.openmmlab.first_generation.translation import RULES
    from footplate.storage import check_output, commit_bytes, missing_path_notes

    if arguments.rules:
        rules = [{key: value for key, value in each._asdict().items() if key != "apply"} for each in RULES]
        print_result(arguments, rules, "\n".join(rule.as_text() for rule in RULES))
        return 0
    if (arguments.config is None) == (arguments.tree is None):
        raise ArgumentError("migrate needs either one config or --tree with a folder")
    if arguments.tree is not None:
        source = Path(os.path.abspath(arguments.tree))
        if not source.is_dir():
            raise ArgumentError(f"'{arguments.tree}' is not a folder", notes=missing_path_notes(source))
        output = Path(arguments.output or _default_output(source, f"{source.name}_migrated"))
        check_output(output, inputs=[source])
        migrated = migrate_tree(source, output)
    else:
        source = Path(find_config(arguments.config))
        output = Path(arguments.output or _default_output(source, f"{source.stem}_migrated{source.suffix}"))
        check_output(output, suffixes=[source.suffix], inputs=[source])
        migrated = migrate_file(source, output)
    if arguments.diff:
        diffs = {str(each.target): each.diff() for each in migrated if each.changed}
        print_result(arguments, diffs, "".join(diffs.values()))
        return 0
    lines = _report(migrated)
    if not arguments.lint:
        write_files(migrated, replace=arguments.force)
        if arguments.tree is not None:
            commit_bytes(output / _REPORT, "".join(f"{line}\n" for line in lines).encode())
            lines = [*_report(migrated, every=False), f"what each key became: {output / _REPORT}"]
        else:
            lines += [f"written: {each.target}{'' if each.changed else ', unchanged'}" for each in migrated]
    files = [{key: value for key, value in each._asdict().items() if key != "text"} for each in migrated]
    print_result(arguments, files, "".join(f"{line}\n" for line in lines))
    return 0


def _default_output(old: Path, name: str) -> str:
    """Returns a path beside `old`, or in the current folder if `old` belongs to an installed package or footplate."""
    from footplate.openmmlab.first_generation.rewriting.plan import is_installed

    real = Path(os.path.realpath(old))
    is_library = real.is_relative_to(_PACKAGE) or is_installed(real)
    return name if is_library else os.path.relpath(old.with_name(name))


def _report(migrated: "list[MigratedFile]", *, every: bool = True) -> list[str]:
    """Returns the lines of the report: new keys, settings that cannot be kept, points to check, and counts."""
    from footplate.openmmlab.first_generation.translation import Kind

    titles = {
        Kind.BECAME: "what each key became",
        Kind.WARNING: "what cannot be kept",
        Kind.PERSON: "what you need to check",
    }
    lines: list[str] = []
    for kind, title in titles.items():
        notes = [
            str(note) if note.origin is not None else f"{each.source}: {note}"
            for each in migrated
            for note in each.notes
            if note.kind is kind
        ]
        if notes and (every or kind is not Kind.BECAME):
            lines += [f"{title}:", *(f"  {line}" for line in notes)]
    changed = sum(each.changed for each in migrated)
    checks = sum(note.kind is Kind.PERSON for each in migrated for note in each.notes)
    lines.append(f"{pluralize(len(migrated), 'file')}, {changed} changed; {pluralize(checks, 'note')} to check")
    return lines
