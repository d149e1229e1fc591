"""`footplate migrate`."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from footplate.cli.streams import say
from footplate.messages import pluralize

if TYPE_CHECKING:
    from footplate.first_generation.rewriting import MigratedFile
    from footplate.first_generation.translation import Note

_PACKAGE = Path(os.path.realpath(__file__)).parents[1]
_REPORT = "migration-report.txt"


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Adds the command to the parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "migrate",
        help="write a first-generation config in the second's words",
        description="Write a first-generation config, or a tree of them, in the second generation's words: bases "
        "split as they were, comments kept, and a report of what each key became and of what needs a person.",
    )
    parser.add_argument("config", metavar="OLD.py", nargs="?", help="a config file or the name of a recipe")
    parser.add_argument("-o", "--output", metavar="NEW.py", help="where to write; OLD_migrated.py by default")
    parser.add_argument("--tree", metavar="DIR", help="migrate all .py configs below DIR, to DIR_migrated or --output")
    looking = parser.add_mutually_exclusive_group()
    looking.add_argument("--diff", action="store_true", help="show what would change, and write nothing")
    looking.add_argument("--lint", action="store_true", help="report with file and line, and write nothing")
    parser.add_argument("--force", action="store_true", help="replace files that are there already")
    parser.add_argument("--rules", action="store_true", help="show the rules, each with an example")
    parser.set_defaults(run=run)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Migrates configs, or shows what would change."""
    from footplate.errors import ArgumentError
    from footplate.first_generation.rewriting import write_files
    from footplate.first_generation.translation import RULES

    if arguments.rules:
        say("\n".join(rule.as_text() for rule in RULES))
        return 0
    if (arguments.config is None) == (arguments.tree is None):
        raise ArgumentError("migrate takes one config, or --tree and a folder")
    found = _migrated(arguments)
    if arguments.lint:
        say("".join(f"{line}\n" for line in _report(found)))
    elif arguments.diff:
        say("".join(each.diff() for each in found if each.changed))
    else:
        write_files(found, replace=arguments.force)
        _say(found, arguments)
    return 0


def _migrated(arguments: argparse.Namespace) -> "list[MigratedFile]":
    from footplate.first_generation.rewriting import check_output_file, check_output_folder, migrate_file, migrate_tree
    from footplate.tasks.recipes import find_config

    if arguments.tree is not None:
        folder, output = Path(arguments.tree), _folder(arguments)
        check_output_folder(folder, output)
        return migrate_tree(folder, output)
    target = Path(arguments.output) if arguments.output else None
    path = Path(arguments.config)
    if not path.is_symlink():
        path = Path(find_config(arguments.config))
    if target is None:
        target = _outside(path, f"{path.stem}_migrated{path.suffix}")
    check_output_file(path, target)
    return migrate_file(path, target)


def _folder(arguments: argparse.Namespace) -> Path:
    """Returns the output folder of a tree; the default is next to the input."""
    if arguments.output:
        return Path(arguments.output)
    folder = Path(arguments.tree)
    if folder.name in ("", ".."):
        folder = folder.resolve()
    return _outside(folder, f"{folder.name}_migrated") or folder.with_name(f"{folder.name}_migrated")


def _outside(old: Path, name: str) -> Path | None:
    """Returns a path in the current folder if `old` is inside footplate, which must not change; otherwise None.

    Raises:
        ArgumentError: The current folder is inside footplate too.
    """
    from footplate.errors import ArgumentError

    if not _is_ours(old):
        return None
    if _is_ours(Path()):
        raise ArgumentError(f"'{old}' belongs to footplate: --output says where the new one goes", key="--output")
    return Path(name)


def _is_ours(path: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(_PACKAGE)


def _say(found: "list[MigratedFile]", arguments: argparse.Namespace) -> None:
    from footplate.storage import commit_bytes

    lines = _report(found)
    if arguments.tree is not None:
        folder = _folder(arguments)
        commit_bytes(folder / _REPORT, "".join(f"{line}\n" for line in lines).encode())
        lines = [*_report(found, every=False), f"what each key became: {folder / _REPORT}"]
    else:
        lines += [f"written: {each.target}{'' if each.changed else ', unchanged'}" for each in found]
    say("".join(f"{line}\n" for line in lines))


def _report(found: "list[MigratedFile]", *, every: bool = True) -> list[str]:
    """Returns the lines of the report: what keys became, what cannot be kept, what needs a person, and counts."""
    from footplate.first_generation.translation import Kind

    titles = {
        Kind.BECAME: "what each key became",
        Kind.WARNING: "what cannot be kept",
        Kind.PERSON: "what needs a person",
    }
    lines: list[str] = []
    for kind, title in titles.items():
        notes = [_line(each, note) for each in found for note in each.notes if note.kind is kind]
        if notes and (every or kind is not Kind.BECAME):
            lines += [f"{title}:", *(f"  {line}" for line in notes)]
    changed = sum(each.changed for each in found)
    people = sum(note.kind is Kind.PERSON for each in found for note in each.notes)
    change, need = "changes" if changed == 1 else "change", "needs" if people == 1 else "need"
    lines.append(
        f"{pluralize(len(found), 'file')}, {changed} of them {change}; {pluralize(people, 'note')} {need} a person"
    )
    return lines


def _line(each: "MigratedFile", note: "Note") -> str:
    return str(note) if note.origin is not None else f"{each.source}: {note}"
