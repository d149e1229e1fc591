"""Handles unknown arguments on the command line."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from footplate.errors import FootplateError
from footplate.messages import nearest

if TYPE_CHECKING:
    from footplate.config import Config

# Options of the OpenMMLab tools that have another name here, or are set elsewhere.
_ELSEWHERE = {
    "auto_resume": "did you mean --resume?",
    "deterministic": "a value of the config: --set +randomness.deterministic=True",
    "gpus": "--nproc N starts a process a device",
    "gpu_id": "CUDA_VISIBLE_DEVICES chooses devices",
    "gpu_ids": "CUDA_VISIBLE_DEVICES chooses devices, --nproc N starts a process a device",
    "eval": "the config's test_evaluator says what is measured",
    "out": "a metric writes them: dict(type='DumpResults', out_file_path='results.pkl') among those of test_evaluator",
}
_OF_SWEEPS = {"work_dir": "did you mean --out?"}
_NEVER = 1_000_000  # epochs or iterations, more than any run has


def refuse_unknown(command: argparse.ArgumentParser, arguments: argparse.Namespace, words: Sequence[str]) -> NoReturn:
    """Exits with an error that suggests the option or config override that was most likely meant.

    Args:
        command: The parser of the command.
        arguments: The arguments that it recognized.
        words: The arguments that it did not recognize.
    """
    flag, _, value = words[0].partition("=")
    if not value and len(words) > 1 and not words[1].startswith("--"):
        value = words[1]
    word = flag.lstrip("-").replace("-", "_")
    key = _key_ending_in(word, arguments) if flag.startswith("--") else ""
    known = {each.lstrip("-").replace("-", "_"): each for each in command._option_string_actions}
    near = nearest(word, known)
    hint = f"; did you mean {known[near]}?" if near else ""
    if key and near != word:
        hint = f"; a value of the config: --set {key}={value or '...'}"
    elif not flag.startswith("-") and value and hasattr(arguments, "set"):
        hint = f"; a value of the config: --set {words[0]}"
    elif word == "no_validate" and hasattr(arguments, "nproc"):
        hint = f"; a value of the config: --set {_begin_of_validation(arguments)}={_NEVER}"
    else:
        elsewhere = _ELSEWHERE if hasattr(arguments, "nproc") else _OF_SWEEPS if hasattr(arguments, "trials") else {}
        hint = f"; {elsewhere[word]}" if word in elsewhere else hint
    command.error(f"unrecognized arguments: {' '.join(words)}{hint}")


def _begin_of_validation(arguments: argparse.Namespace) -> str:
    """Returns the key for the start of validation in the config's generation, with a `+` in case it must be added."""
    from footplate.first_generation.translation import is_first_generation

    cfg = _config_of(arguments)
    return "+evaluation.start" if cfg is not None and is_first_generation(cfg) else "+train_cfg.val_begin"


def _config_of(arguments: argparse.Namespace) -> "Config | None":
    from footplate.config import Config
    from footplate.tasks.recipes import find_config

    if not hasattr(arguments, "set"):
        return None
    try:
        return Config.fromfile(find_config(arguments.config), import_custom_modules=False)
    except (FootplateError, OSError):  # reported once the rest of the line is valid
        return None


def _key_ending_in(word: str, arguments: argparse.Namespace) -> str:
    """Returns the key path of the config that ends with a word, or ""; keys of a run come before variables."""
    from footplate.config.key_paths import paths_ending, split_path
    from footplate.engine.sections import keys_read

    cfg = _config_of(arguments)
    if cfg is None:
        return ""
    try:
        found = paths_ending(cfg._cfg_dict, word)
    except FootplateError:
        return ""
    read = keys_read(cfg)
    reaching = [path for path in found if next(iter(split_path(path))) in read]
    return (reaching or found or [""])[0]
