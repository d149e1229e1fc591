"""Implements the commands `footplate checkpoint show|verify|average|export|consolidate`."""

import re
from argparse import Namespace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from footplate.cli.arguments import Parser, add_command
from footplate.cli.output import print_json, print_result, print_text, wrap_for_screen
from footplate.errors import ArgumentError, CheckpointError
from footplate.messages import format_bytes, pluralize

if TYPE_CHECKING:
    from footplate.tools.checkpoint_contents import Contents

_MAX_ROWS = 20  # weights to show without --all


def add_commands(subparsers: Any) -> None:
    """Adds the command and its subcommands to the parser."""
    text = "show, verify, average, export or convert checkpoints"
    parser = subparsers.add_parser("checkpoint", help=text, description=f"{text.capitalize()}.")
    actions = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, run: Any, text: str, output: str = "") -> Parser:
        action = add_command(actions, name, run, text, f"{text[0].upper()}{text[1:]}.")
        if output:
            action.add_value("-o --output", "FILE", output, required=True)
        return action

    show = add("show", show_contents, "show the contents of checkpoints")
    verify = add("verify", verify_files, "check that files are intact; exit with status 1 if one is damaged or missing")
    average = add("average", average_files, "average the weights of several checkpoints", "the file to write")
    for action in (show, verify, average):
        action.add_value("files", "FILE", "a checkpoint file or the folder of a sharded checkpoint", nargs="+")
    show.add_flag("--all", f"list every weight, not only the first {_MAX_ROWS}")
    export = add("export", export_file, "write only the weights", "the .pth or .safetensors file to write")
    export.add_value("file", "FILE", "a checkpoint")
    export.add_value(
        "--revise",
        "PATTERN=TEXT",
        "replace matches of a regular expression in every key, such as ^=x. to add a prefix; can be repeated",
        action="append",
        default=[],
    )
    export.add_value("--prefix", "TEXT", "export only keys with this prefix, and strip the prefix")
    consolidate = add(
        "consolidate", consolidate_folder, "convert a sharded checkpoint to a single file", "the file to write"
    )
    consolidate.add_value("folder", "FOLDER", "a sharded checkpoint, such as iter_4000.sharded")


def show_contents(arguments: Namespace) -> None:
    """Prints the contents of each checkpoint."""
    from footplate.tools.checkpoint_contents import read_contents

    if arguments.json:
        print_json(arguments, [read_contents(path) for path in arguments.files])
        return
    for path in arguments.files:
        text = "\n".join(_describe(read_contents(path), None if arguments.all else _MAX_ROWS))
        print_text(wrap_for_screen(text + "\n"))


def verify_files(arguments: Namespace) -> int:
    """Prints whether each file is intact. Returns 1 if any file is damaged or missing."""
    from footplate.checkpoint import verify

    code = 0
    files = []
    for path in arguments.files:
        try:
            digest = verify(path).sha256
        except CheckpointError as error:
            code, text = 1, f"{error}\n"
            files.append({"file": path, "intact": False, "problem": error.message})
        else:
            checked = f"content sha256 {digest}" if digest else "no digest, but all content was checked"
            text = f"{path}: intact, {checked}\n"
            files.append({"file": path, "intact": True, "sha256": digest})
        if not arguments.json:
            print_text(text)
    if arguments.json:
        print_json(arguments, files)
    return code


def average_files(arguments: Namespace) -> None:
    """Averages the weights of several checkpoints and writes the result."""
    from footplate.checkpoint import save_checkpoint
    from footplate.checkpoint_names import SUFFIXES
    from footplate.tools.checkpoint_conversion import average_weights
    from footplate.tools.output_check import check_output

    check_output(arguments.output, suffixes=SUFFIXES, inputs=arguments.files)
    weights = average_weights(arguments.files)
    save_checkpoint({"meta": {"averaged": arguments.files}, "state_dict": weights}, arguments.output)
    text = f"averaged {pluralize(len(weights), 'weight')} from {pluralize(len(arguments.files), 'checkpoint')}"
    print_result(
        arguments,
        {"weights": len(weights), "file": arguments.output},
        f"{text}: {arguments.output}\nIt contains no config. To test or predict, also pass the config.\n",
    )


def export_file(arguments: Namespace) -> None:
    """Writes the weights of a checkpoint to a file."""
    from footplate.tools.checkpoint_conversion import export_weights

    revise_keys = []
    for text in arguments.revise:
        pattern, equals, replacement = text.partition("=")
        if not equals:
            raise ArgumentError("--revise must have the form PATTERN=TEXT", found=text)
        revise_keys.append((pattern, replacement))
    try:
        count = export_weights(arguments.file, arguments.output, revise_keys=revise_keys, prefix=arguments.prefix)
    except re.error as error:
        raise ArgumentError(f"invalid regular expression in --revise: {error}", found=arguments.revise) from error
    text = f"{pluralize(count, 'weight')}: {arguments.output}\n"
    print_result(arguments, {"weights": count, "file": arguments.output}, text)


def consolidate_folder(arguments: Namespace) -> None:
    """Converts a sharded checkpoint to a single file."""
    from footplate.tools.checkpoint_conversion import consolidate

    count = consolidate(arguments.folder, arguments.output)
    text = f"joined {pluralize(count, 'sharded tensor')}: {arguments.output}\n"
    print_result(arguments, {"tensors": count, "file": arguments.output}, text)


def _describe(found: "Contents", most: int | None) -> list[str]:
    """Returns lines of text that describe a checkpoint. Lists at most `most` weights, or all weights if it is None."""
    digest = "no digest"
    if found.digest.sha256 is not None:
        saved = datetime.fromtimestamp(found.digest.saved / 1e9, tz=timezone.utc)
        digest = f"saved {saved:%Y-%m-%d %H:%M:%S} UTC, content sha256 {found.digest.sha256} (not verified)"
    lines = [f"{found.path}: {format_bytes(found.size)}, {digest}"]
    if found.meta:
        lines.append("  " + ", ".join(f"{key} {value}" for key, value in found.meta.items()))
    width = 2 + max((len(section.name) for section in found.sections), default=0)
    for section in found.sections:
        size = f"{section.tensors:>7} tensors {format_bytes(section.size):>10}" if section.tensors else section.text
        lines.append(f"  {section.name:<{width}}{size}".rstrip())
    if found.opaque_names:
        lines.append(f"classes that were not loaded: {', '.join(found.opaque_names)}")
    if found.weights:
        shown = found.weights[:most]
        width = max(len(name) for name, *_ in shown)
        lines += ["  weights:", *(f"    {name:<{width}}  {list(shape)} {dtype}" for name, shape, dtype in shown)]
        if len(shown) < len(found.weights):
            lines.append(f"    ... and {len(found.weights) - len(shown)} more; --all lists them")
    return lines
