"""Implements the command `footplate migrate`."""

from argparse import Namespace
from pathlib import Path
from typing import Any

from footplate.cli.arguments import add_command
from footplate.cli.output import print_result

GROUP = "convert"


def add_commands(subparsers: Any) -> None:
    """Adds the command to the parser."""
    parser = add_command(
        subparsers,
        "migrate",
        run,
        "convert a first-generation config to the second generation",
        "Convert a first-generation config, with its base files, to a single second-generation config. "
        "Print the new form of each key, and what you need to check.",
        "footplate migrate old.py --output new.py",
    )
    parser.add_value("config", "OLD.py", "a config file")
    parser.add_value("-o --output", "NEW.py", "the new file (default: OLD_migrated.py in the current folder)")
    parser.add_flag("--force", "replace an existing file")


def run(arguments: Namespace) -> None:
    """Writes the translated config and prints the notes about its keys."""
    from footplate.config import Config
    from footplate.config.config import FileLoader, Options
    from footplate.config.formats import write_config
    from footplate.config.sources import find_config
    from footplate.errors import ArgumentError, ConfigError
    from footplate.storage import commit_bytes
    from footplate.tools.explain_keys import source_files
    from footplate.tools.output_check import check_output
    from footplate_openmmlab.code_bases import named_code_bases
    from footplate_openmmlab.first_generation.translation.config_translation import (
        is_first_generation,
        translate_sections,
    )
    from footplate_openmmlab.first_generation.translation.draft import Kind

    path = find_config(arguments.config)
    output = arguments.output or f"{Path(path).stem}_migrated.py"
    cfg = Config.fromfile(path, import_custom_modules=False)
    check_output(output, suffixes=[".py"], inputs=source_files(cfg))
    if not is_first_generation(cfg):
        raise ConfigError("the config has no first-generation keys", found=path, notes=["There is nothing to migrate."])
    if Path(output).is_file() and not arguments.force:
        raise ArgumentError(f"'{output}' already exists", notes=["Use --force to replace it."])
    named_code_bases(cfg)  # sets `default_scope`, which the migrated config needs to find its classes
    translation = translate_sections(cfg)
    text = write_config(translation.sections, ".py")
    if FileLoader(text, output, ".py", Options()).load().mapping.to_dict() != translation.sections.to_dict():
        notes = ["This is a bug in footplate. Please report it with the config."]
        raise ConfigError("the migrated file would load as a different config", found=path, notes=notes)
    commit_bytes(output, text.encode())
    titles = ("translated keys:", "settings that cannot be kept:", "settings that you need to check:")
    lines = []
    for kind, title in zip(Kind, titles, strict=True):
        notes = [f"  {note}" for note in translation.notes if note.kind is kind]
        lines += [title, *notes] if notes else []
    text = "\n".join([*lines, f"written: {output}", ""])
    print_result(arguments, {"file": output, "notes": translation.notes}, text)
