"""Parses the command line: the parser class, the options that commands share, and hints for unknown arguments."""

import argparse
import json
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from footplate.errors import FootplateError
from footplate.messages import nearest

if TYPE_CHECKING:
    from footplate.config import Config, ConfigDict

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".pdf")
_INVALID_CHOICE = re.compile(r"invalid choice: '([^']*)' \(choose from (.*)\)")
_MISSING = re.compile(r"the following arguments are required: (.+)")
_LONG_WORD = re.compile(r"([^\s']{157})[^\s']{4,}")

# Options of the OpenMMLab tools that have another name here, or are set elsewhere.
_OTHER_TOOLS_OPTIONS = {
    "auto_resume": "did you mean --resume?",
    "deterministic": "set it in the config: --set randomness.deterministic=True",
    "gpus": "use --nproc N to start one process per device",
    "gpu_id": "use CUDA_VISIBLE_DEVICES to choose devices",
    "gpu_ids": "use CUDA_VISIBLE_DEVICES to choose devices, and --nproc N to start one process per device",
    "eval": "set the metrics in the config, in test_evaluator",
    "out": "add a metric to test_evaluator: dict(type='DumpResults', out_file_path='results.pkl')",
}
_OTHER_SWEEP_OPTIONS = {"work_dir": "did you mean --out?"}
_NEVER = 1_000_000  # epochs or iterations, more than in any run


class Parser(argparse.ArgumentParser):
    """Parses the command line, or the part of it that belongs to one command.

    Usage lines show only positional arguments and required options, in an order that the parser accepts. Errors have
    two lines and suggest the argument that was most likely meant.
    """

    _given: Sequence[str] = ()
    hints: Mapping[str, str] = {}  # maps words that are not subcommands to the advice in the error message

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=_Formatter, **options)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parses the arguments and stores them for error messages."""
        self._given = sys.argv[1:] if args is None else args
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Exits after printing the error and a reference to `--help`."""
        choice, missing = _INVALID_CHOICE.search(message), _MISSING.search(message)
        if choice:
            known = re.findall(r"[\w-]+", choice[2])
            near = nearest(choice[1], known)
            hint = self.hints.get(choice[1]) or (f"did you mean '{near}'?" if near else f"use {', '.join(known)}")
            message = f"invalid choice '{choice[1]}'; {hint}"
        elif missing and any(word.startswith("--") for word in self._given):
            message += "; put them before the options, because some options take all arguments that follow"
        message = _LONG_WORD.sub(r"\1...", message)
        if "--json" in self._given:
            error = {"type": "ArgumentError", "message": message, "notes": [], "exit_code": 2}
            sys.stdout.write(json.dumps({"error": error}, indent=2) + "\n")
        self.exit(2, f"{self.prog}: error: {message}\nRun `{self.prog} --help` for its arguments.\n")

    def shorten_usage(self) -> None:
        """Shortens the usage to positional arguments and required options. The help lists the other options."""
        formatter = self._get_formatter()
        placed = [action for action in self._actions if not action.option_strings]
        if any(isinstance(action, argparse._SubParsersAction) for action in placed):
            return
        words = [formatter._format_args(each, formatter._get_default_metavar_for_positional(each)) for each in placed]
        for each in self._actions:
            if each.option_strings and each.required:
                words.append(f"{each.option_strings[-1]} {formatter._format_args(each, each.dest.upper())}")
        parts = [*words, "[options]"]
        if placed and placed[-1].nargs == argparse.REMAINDER:  # contains all options that follow
            parts = ["[options]", *words[:-1], f"[{placed[-1].metavar}...]"]
        self.usage = " ".join(["%(prog)s", *parts])


class _Formatter(argparse.HelpFormatter):
    """Widens the first column of the help to fit the names of commands."""

    def add_argument(self, action: argparse.Action) -> None:
        super().add_argument(action)
        inner = [self._format_action_invocation(each) for each in self._iter_indented_subactions(action)]
        longest = max(map(len, inner), default=0) + self._current_indent + self._indent_increment
        self._action_max_length = max(self._action_max_length, longest if inner else 0)


def add_config(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments for a config and its overrides to the parser."""
    parser.add_argument("config", metavar="CONFIG", help="a config file or the name of a recipe")
    add_overrides(parser)


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Adds the options that override config keys."""
    for flag, text in (
        ("--set", "override config keys; unknown keys are errors, +KEY=VALUE adds any key"),
        ("--cfg-options", "merge config keys as the OpenMMLab tools do; unknown keys are added"),
    ):
        parser.add_argument(flag, metavar="KEY=VALUE", nargs="+", action="extend", default=[], help=text)


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Adds the option that allows a checkpoint to execute code."""
    parser.add_argument(
        "--trust",
        metavar="FILE",
        help="allow this checkpoint to execute code while it is loaded; use it only for your own files",
    )


def add_trained(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments for a checkpoint, its config and the overrides to the parser."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a checkpoint of the model")
    parser.add_argument(
        "--config",
        metavar="CONFIG",
        help="a config file or the name of a recipe (default: the config in the checkpoint)",
    )
    add_overrides(parser)
    add_trust(parser)


def add_no_patches(parser: argparse.ArgumentParser) -> None:
    """Adds the option that disables patches of first-generation code."""
    parser.add_argument(
        "--no-patches",
        action="store_true",
        help="do not patch first-generation code that uses names removed from PyTorch, NumPy or Python",
    )


def read_config(arguments: argparse.Namespace, *, import_custom_modules: bool = True) -> "Config":
    """Loads the config given by the arguments, and applies their overrides."""
    from footplate.config import Config
    from footplate.tasks.recipes import find_config

    cfg = Config.fromfile(find_config(arguments.config), import_custom_modules=False)
    arguments.cfg = cfg  # so that errors can name its keys
    return override(cfg, arguments, import_custom_modules=import_custom_modules)


def override(cfg: "Config", arguments: argparse.Namespace, *, import_custom_modules: bool = True) -> "Config":
    """Applies the overrides in the arguments to a config and returns it."""
    from footplate.config import apply_overrides
    from footplate.tools.key_equivalents import accepted_keys, apply_known

    def import_modules() -> None:
        from footplate import hosts

        if import_custom_modules:
            hosts.import_modules(cfg, patches=not getattr(arguments, "no_patches", False))

    def accepted(mapping: "ConfigDict", parts: Sequence[str]) -> Collection[str]:
        keys = accepted_keys(mapping, parts)
        if not keys:  # the class of the section may be in one of the user's modules
            import_modules()
        return keys or accepted_keys(mapping, parts)

    apply_overrides(cfg, arguments.cfg_options, strict=False, accepted=accepted)
    apply_known(cfg, arguments.set, accepted)
    import_modules()
    return cfg


def set_work_dir(cfg: "Config", given: str | None) -> None:
    """Sets the work_dir to `given` or, if `given` is None and the config sets none, to `work_dirs/<config name>`."""
    if given is not None:
        cfg["work_dir"] = given
    elif cfg.get("work_dir") is None:
        cfg["work_dir"] = str(Path("work_dirs") / Path(str(cfg.filename)).stem)


def refuse_unknown(command: argparse.ArgumentParser, arguments: argparse.Namespace, unknown: Sequence[str]) -> NoReturn:
    """Exits with an error about the unknown arguments of a command. Suggests the option or override that was meant."""
    flag, _, value = unknown[0].partition("=")
    if not value and len(unknown) > 1 and not unknown[1].startswith("--"):
        value = unknown[1]
    name = flag.lstrip("-").replace("-", "_")
    cfg, key = None, ""
    if getattr(arguments, "config", None) is not None and hasattr(arguments, "set"):
        from footplate.config import Config
        from footplate.tasks.recipes import find_config

        with suppress(FootplateError, OSError):  # reported when the arguments are valid
            cfg = Config.fromfile(find_config(arguments.config), import_custom_modules=False)
    if cfg is not None and flag.startswith("--"):
        from footplate.config.key_paths import paths_ending, split_path
        from footplate.engine.run_config import keys_read

        found: list[str] = []
        with suppress(FootplateError):  # the name cannot be a key
            found = paths_ending(cfg._cfg_dict, name)
        read = keys_read(cfg)
        used = [path for path in found if next(iter(split_path(path))) in read]  # the others are variables
        key = (used or found or [""])[0]
    known = {each.lstrip("-").replace("-", "_"): each for each in command._option_string_actions}
    near = nearest(name, known)
    is_run = hasattr(arguments, "nproc")  # train, test and check
    others = _OTHER_TOOLS_OPTIONS if is_run else _OTHER_SWEEP_OPTIONS if hasattr(arguments, "trials") else {}
    hint = f"did you mean {known[near]}?" if near else ""
    if key and near != name:
        hint = f"set it in the config: --set {key}={value or '...'}"
    elif not flag.startswith("-") and value and hasattr(arguments, "set"):
        hint = f"set it in the config: --set {unknown[0]}"
    elif name == "no_validate" and is_run:
        from footplate.first_generation.translation import is_first_generation

        begin = "evaluation.start" if cfg is not None and is_first_generation(cfg) else "train_cfg.val_begin"
        hint = f"set it in the config: --set {begin}={_NEVER}"
    else:
        hint = others.get(name, hint)
    command.error(f"unrecognized arguments: {' '.join(unknown)}{f'; {hint}' if hint else ''}")
