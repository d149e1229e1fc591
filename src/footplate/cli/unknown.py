"""Words on the command line that no option knows."""

import argparse
from collections.abc import Sequence
from typing import NoReturn

from footplate.errors import FootplateError, nearest

# Options of the known tools that have another name here, or a place elsewhere.
_ELSEWHERE = {
    "auto_resume": "did you mean --resume?",
    "deterministic": "a value of the config: --set +randomness.deterministic=True",
    "gpus": "--nproc N starts a process a device",
    "gpu_id": "CUDA_VISIBLE_DEVICES chooses devices",
    "gpu_ids": "CUDA_VISIBLE_DEVICES chooses devices, --nproc N starts a process a device",
    "eval": "the config's test_evaluator says what is measured",
}


def refuse_unknown(command: argparse.ArgumentParser, arguments: argparse.Namespace, words: Sequence[str]) -> NoReturn:
    """Ends the process, with the option or the override of the config that was most likely meant.

    Args:
        command: The parser of the command.
        arguments: What it did understand.
        words: What it did not.
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
    elif word in _ELSEWHERE and hasattr(arguments, "nproc"):
        hint = f"; {_ELSEWHERE[word]}"
    command.error(f"unrecognized arguments: {' '.join(words)}{hint}")


def _key_ending_in(word: str, arguments: argparse.Namespace) -> str:
    """The key path of the config that ends in a word, a run's key before a variable; "" where there is none."""
    from footplate.config import Config
    from footplate.config.merging import paths_ending, split_path
    from footplate.engine.keys import KNOWN_KEYS, READ_KEYS
    from footplate.migration import is_first_generation
    from footplate.recipes.catalog import find_config

    if not hasattr(arguments, "set"):
        return ""
    try:
        cfg = Config.fromfile(find_config(arguments.config), import_custom_modules=False)
        found = paths_ending(cfg._cfg_dict, word)
    except (FootplateError, OSError):  # it is told when the rest of the line is right
        return ""
    read = KNOWN_KEYS if is_first_generation(cfg) else READ_KEYS
    reaching = [path for path in found if next(iter(split_path(path))) in read]
    return (reaching or found or [""])[0]
