"""`footplate checkpoint show|verify|average|export|consolidate|shard`."""

import argparse
import re
from typing import TYPE_CHECKING, Any

from footplate.cli.options import add_trust
from footplate.cli.parsing import Parser
from footplate.cli.streams import say
from footplate.messages import pluralize
from footplate.wrap import wrap_for_screen

if TYPE_CHECKING:
    from footplate.checkpoint import Contents

_SHOWN_WEIGHTS = 20


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Adds the command and its subcommands to the parser."""
    parser: Parser = subparsers.add_parser(
        "checkpoint",
        help="look into checkpoints, verify, average, export, join, cut",
        description="Look into checkpoints, verify, average, export, join and cut them.",
    )
    parser.elsewhere = dict.fromkeys(("list", "ls"), "footplate analyze WORK_DIR lists those of a run")
    actions = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_show(actions)
    _add_verify(actions)
    _add_average(actions)
    _add_export(actions)
    _add_consolidate(actions)
    _add_shard(actions)
    return parser


def _add_show(actions: Any) -> None:
    parser = actions.add_parser("show", help="show what is inside", description="Show what is inside checkpoints.")
    parser.add_argument("files", metavar="FILE", nargs="+", help="a checkpoint, also one in parts")
    parser.add_argument("--all", action="store_true", help=f"list every weight, not the first {_SHOWN_WEIGHTS}")
    parser.set_defaults(run=show)


def _add_verify(actions: Any) -> None:
    parser = actions.add_parser(
        "verify", help="tell whether they are whole", description="Read checkpoints through; exit 1 if one is damaged."
    )
    parser.add_argument("files", metavar="FILE", nargs="+", help="a checkpoint, also one in parts")
    parser.set_defaults(run=verify)


def _add_average(actions: Any) -> None:
    parser = actions.add_parser(
        "average", help="average the weights of several", description="Average the weights of several checkpoints."
    )
    parser.add_argument("files", metavar="FILE", nargs="+", help="a checkpoint, also one in parts")
    parser.add_argument("-o", "--output", metavar="FILE", required=True, help="where to write")
    parser.add_argument("--shares", metavar="X", type=float, nargs="+", help="the part of each; equal by default")
    add_trust(parser)
    parser.set_defaults(run=average)


def _add_export(actions: Any) -> None:
    parser = actions.add_parser(
        "export",
        help="write the weights alone",
        description="Write the weights of a checkpoint to FILE.pth or FILE.safetensors.",
    )
    parser.add_argument("file", metavar="FILE", help="a checkpoint")
    parser.add_argument("-o", "--output", metavar="FILE", required=True, help="where to write")
    parser.add_argument("--section", metavar="KEY", help="the entry that holds the weights, such as ema_state_dict")
    parser.add_argument(
        "--revise",
        metavar="PATTERN=TEXT",
        action="append",
        default=[],
        help="replace what matches in every key; may be repeated",
    )
    parser.add_argument("--prefix", metavar="TEXT", help="take only keys that begin with it, and take it off")
    parser.add_argument("--add-prefix", metavar="TEXT", default="", help="put it before every key")
    parser.add_argument(
        "--layout", choices=("plain", "mmengine"), default="plain", help="a bare state dict, or meta and state_dict"
    )
    add_trust(parser)
    parser.set_defaults(run=export)


def _add_consolidate(actions: Any) -> None:
    parser = actions.add_parser(
        "consolidate",
        help="write a sharded checkpoint to a single file",
        description="Write a sharded checkpoint, iter_4000.sharded, to a single file.",
    )
    parser.add_argument("folder", metavar="FOLDER", help="a sharded checkpoint")
    parser.add_argument("-o", "--output", metavar="FILE", required=True, help="where to write")
    parser.set_defaults(run=consolidate)


def _add_shard(actions: Any) -> None:
    parser = actions.add_parser(
        "shard",
        help="write a single file as a sharded checkpoint",
        description="Write a single file as a sharded checkpoint, which runs with any number of processes can load.",
    )
    parser.add_argument("file", metavar="FILE", help="a checkpoint")
    parser.add_argument("-o", "--output", metavar="FOLDER", required=True, help="its name ends in .sharded")
    parser.add_argument("--parts", metavar="N", type=int, default=8, help="the number of shards (8)")
    parser.set_defaults(run=shard)


def show(arguments: argparse.Namespace) -> int:
    """Prints the contents of each file."""
    from footplate.checkpoint import read_contents

    for path in arguments.files:
        _print_contents(read_contents(path), most=None if arguments.all else _SHOWN_WEIGHTS)
    return 0


def verify(arguments: argparse.Namespace) -> int:
    """Prints whether each file is intact; returns 1 if one is not."""
    from footplate.checkpoint import verify as verify_file
    from footplate.errors import CheckpointError

    worst = 0
    for path in arguments.files:
        try:
            digest = verify_file(path).sha256
        except CheckpointError as error:
            worst = 1
            say(f"{error}\n")
        else:
            detail = f"sha256 {digest}" if digest else "no digest in it; what it has of checksums agrees"
            say(f"{path}: whole, {detail}\n")
    return worst


def average(arguments: argparse.Namespace) -> int:
    """Writes the mean of the weights."""
    from footplate.checkpoint import SUFFIXES, average_weights, save_checkpoint, trusted_files, trusting
    from footplate.storage import check_output

    check_output(arguments.output, suffixes=SUFFIXES, inputs=arguments.files)
    meta = {"averaged": arguments.files, "shares": arguments.shares}
    with trusting(arguments.trust):
        weights = average_weights(arguments.files, arguments.shares)
        if trusted := trusted_files():
            meta["trusted"] = trusted
    save_checkpoint({"meta": meta, "state_dict": weights}, arguments.output)
    say(f"{len(weights)} weights of {len(arguments.files)} checkpoints: {arguments.output}\n")
    return 0


def export(arguments: argparse.Namespace) -> int:
    """Writes only the weights."""
    from footplate.checkpoint import export_weights, trusting
    from footplate.errors import ArgumentError

    try:
        with trusting(arguments.trust):
            count = export_weights(
                arguments.file,
                arguments.output,
                section=arguments.section,
                revise_keys=[_pair(text) for text in arguments.revise],
                prefix=arguments.prefix,
                add_prefix=arguments.add_prefix,
                layout=arguments.layout,
            )
    except re.error as error:
        raise ArgumentError(f"--revise takes a regular expression: {error}", found=arguments.revise) from error
    say(f"{pluralize(count, 'weight')}: {arguments.output}\n")
    return 0


def consolidate(arguments: argparse.Namespace) -> int:
    """Writes a sharded checkpoint to a single file."""
    from footplate.checkpoint import consolidate as join

    count = join(arguments.folder, arguments.output)
    say(f"{count} sharded tensors joined: {arguments.output}\n")
    return 0


def shard(arguments: argparse.Namespace) -> int:
    """Writes a single file as a sharded checkpoint."""
    from footplate.checkpoint import shard as cut

    count = cut(arguments.file, arguments.output, arguments.parts)
    say(f"{count} tensors split into {arguments.parts} shards: {arguments.output}\n")
    return 0


def _pair(text: str) -> tuple[str, str]:
    from footplate.errors import ArgumentError

    pattern, equals, replacement = text.partition("=")
    if not equals:
        raise ArgumentError("--revise takes PATTERN=TEXT", found=text)
    return pattern, replacement


def _print_contents(found: "Contents", *, most: int | None) -> None:
    from footplate.messages import format_bytes

    lines = [f"{found.path}: {format_bytes(found.size)}, {_told_digest(found)}"]
    if found.meta:
        lines.append("  " + ", ".join(f"{key} {value}" for key, value in found.meta.items()))
    width = 2 + max((len(section.name) for section in found.sections), default=0)
    for section in found.sections:
        size = f"{section.tensors:>7} tensors {format_bytes(section.size):>10}" if section.tensors else section.text
        lines.append(f"  {section.name:<{width}}{size}".rstrip())
    if found.opaque_names:
        lines.append(f"  of other programs: {', '.join(found.opaque_names)}")
    lines += _told_files(found, most)
    if found.weights:
        lines.append("  weights:")
    width = max((len(name) for name, *_ in found.weights[:most]), default=0)
    lines += [f"    {name:<{width}}  {list(shape)} {dtype}" for name, shape, dtype in found.weights[:most]]
    if most is not None and len(found.weights) > most:
        lines.append(f"    ... and {len(found.weights) - most} more; --all lists them")
    say(wrap_for_screen("\n".join(lines) + "\n"))


def _told_files(found: "Contents", most: int | None) -> list[str]:
    from footplate.messages import format_bytes

    lines = ["  files:"] if found.files else []
    width = max((len(each.name) for each in found.files), default=0)
    for each in found.files[:most]:
        held = f"shards of {each.shards} tensors" if each.shards else "everything else"
        lines.append(f"    {each.name:<{width}}  {format_bytes(each.size):>10}  {held}")
    if most is not None and len(found.files) > most:
        lines.append(f"    ... and {len(found.files) - most} more; --all lists them")
    return lines


def _told_digest(found: "Contents") -> str:
    from datetime import datetime, timezone

    if found.digest.sha256 is None:
        return "no digest in it"
    saved = datetime.fromtimestamp(found.digest.saved / 1e9, tz=timezone.utc)
    return f"saved {saved:%Y-%m-%d %H:%M:%S} UTC, sha256 {found.digest.sha256} (not verified here)"
