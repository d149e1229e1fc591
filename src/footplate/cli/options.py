"""Options that commands share."""

import argparse
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from footplate.config import Config

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".pdf")


def add_config(parser: argparse.ArgumentParser) -> None:
    """Adds the config and its overrides to the parser."""
    parser.add_argument("config", metavar="CONFIG", help="a config file or the name of a recipe")
    add_overrides(parser)


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Adds the overrides to the parser of a command with another argument for the config."""
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        nargs="+",
        action="extend",
        default=[],
        help="override keys; an unknown one is refused, +KEY=VALUE adds one",
    )
    parser.add_argument(
        "--cfg-options",
        metavar="KEY=VALUE",
        nargs="+",
        action="extend",
        default=[],
        help="merge keys as the known tools do, unknown ones too",
    )


def read_config(arguments: argparse.Namespace, *, import_custom_modules: bool = True) -> "Config":
    """Loads the config in the arguments and applies their overrides."""
    from footplate.config import Config
    from footplate.tasks.recipes import find_config

    cfg = Config.fromfile(find_config(arguments.config), import_custom_modules=False)
    arguments.cfg = cfg  # so that errors can name its keys
    return override(cfg, arguments, import_custom_modules=import_custom_modules)


def override(cfg: "Config", arguments: argparse.Namespace, *, import_custom_modules: bool = True) -> "Config":
    """Applies the overrides in the arguments to a config and returns it."""
    from footplate.config import apply_overrides

    apply_overrides(cfg, arguments.cfg_options, strict=False)
    for text in arguments.set:
        _set(cfg, text)
    if import_custom_modules:
        import_what_it_names(cfg)
    return cfg


def _set(cfg: "Config", text: str) -> None:
    from footplate.config import apply_overrides
    from footplate.errors import OverrideError

    try:
        apply_overrides(cfg, [text], strict=True)
    except OverrideError as error:
        from footplate.cli.generations import in_own_words

        raise in_own_words(error, cfg, text.partition("=")[0].strip()) from error


def import_what_it_names(cfg: "Config") -> None:
    """Imports the modules in `custom_imports`, after providing the packages that such modules usually import."""
    from footplate import hosts
    from footplate.config import import_custom
    from footplate.first_generation.translation import is_first_generation

    if "custom_imports" in cfg or is_first_generation(cfg):
        hosts.install()
    folder = os.path.dirname(os.path.abspath(str(cfg.filename)))
    if cfg.filename and folder not in sys.path:
        sys.path.append(folder)  # modules next to the config come after those in the current folder
    import_custom(cfg)


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Adds the option that allows one checkpoint to execute code."""
    parser.add_argument(
        "--trust",
        metavar="FILE",
        help="let this one checkpoint execute code when it is loaded, which is recorded; for files of your own making",
    )


def choose_work_dir(cfg: "Config", given: str | None) -> None:
    """Sets the work_dir: the given one, the config's, or `work_dirs/<name of the config>`."""
    from pathlib import Path

    if given is not None:
        cfg["work_dir"] = given
    elif cfg.get("work_dir") is None:
        cfg["work_dir"] = str(Path("work_dirs") / Path(str(cfg.filename)).stem)
