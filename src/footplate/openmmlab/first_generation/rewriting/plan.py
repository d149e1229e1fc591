"""Determines which file of a config tree contains which translated sections and values."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from footplate.config import Config, ConfigDict
from footplate.errors import FootplateError
from footplate.openmmlab.first_generation.rewriting.source import SourceFile
from footplate.openmmlab.first_generation.translation.draft import Note
from footplate.openmmlab.first_generation.translation.key_map import OWNERS, owners_of
from footplate.openmmlab.first_generation.translation.translate import RULES, is_first_generation, translate_sections

Values = dict[str, Any]

OLD_KEYS = frozenset(key for rule in RULES for key in rule.keys if key not in ("model", "train_cfg", "test_cfg"))
"""The first-generation keys that never occur in a second-generation file."""

DELETE = "_delete_"
_LENGTH_KEYS = ("runner", "total_epochs", "total_iters")


class ConfigFile(NamedTuple):
    """A config file in a tree.

    Attributes:
        source: The parsed source.
        config: The resolved config, including its bases.
        bases: The bases that belong to the tree.
        outside_bases: The other bases, as written in `_base_`.
    """

    source: SourceFile
    config: Config
    bases: tuple[Path, ...]
    outside_bases: tuple[str, ...]


class FilePlan(NamedTuple):
    """The content that a new file must have.

    Attributes:
        expected: The config that the file must resolve to with its bases.
        keys: The top-level keys that the file sets.
        notes: The notes of the translation.
        removed: The first-generation keys that are removed from the file.
        is_whole: Whether the file configures a complete run, rather than serving as a base for other configs.
    """

    expected: Values
    keys: tuple[str, ...]
    notes: tuple[Note, ...]
    removed: frozenset[str]
    is_whole: bool


class ConfigTree:
    """Config files that inherit from each other.

    Args:
        paths: The absolute paths of the files.
        folder: Base files below this folder are included, even if they are not in `paths`. Those of installed packages
            are not.

    Attributes:
        files: Maps paths to files. Bases come before the files that inherit from them.
        errors: Maps the path of each file that cannot be read to the error.
    """

    def __init__(self, paths: Iterable[Path], *, folder: Path | None = None) -> None:
        self.files: dict[Path, ConfigFile] = {}
        self.errors: dict[Path, FootplateError] = {}
        self._paths = set(paths)
        self._folder = folder
        for path in sorted(self._paths):
            self._add(path)
        # The first-generation runs that inherit from each file, directly or indirectly.
        self._runs: dict[Path, list[Config]] = {path: [] for path in self.files}
        for path, file in self.files.items():
            if _is_run(file.config) and _is_translatable(file.config):
                for base in self._ancestors(path):
                    self._runs[base].append(file.config)

    def plan(self, path: Path) -> FilePlan | None:
        """Returns the plan of a file, or None if it needs no translation.

        Raises:
            ConfigError: The file cannot be translated.
        """
        file = self.files[path]
        if not is_first_generation(file.config):
            return None
        is_whole = self._is_whole(path)
        common: Values = {}
        if not is_whole:  # add the settings of most of the configs that inherit from this file
            runs = self._runs[path]
            for key in (*OLD_KEYS, "model"):
                values = [run[key] for run in runs if key in run]
                if len(values) * 2 > len(runs):
                    (text, _), *_ = Counter(map(repr, values)).most_common(1)
                    common[key] = next(value for value in values if repr(value) == text)
        context = ConfigDict({**common, **{key: file.config[key] for key in file.config}})
        context._origins.update(file.config._origins)
        translation = translate_sections(context)
        expected = translation.sections.to_dict()
        translated = {each[0] for each in translation.sources}
        if expected.get("model") != context.get("model"):
            translated.add("model")
        keys = [key for key in OWNERS if key in expected and key in translated]
        keys += [key for key in expected if key in translated and key not in OWNERS]
        if not is_whole:
            # A base file writes a section if it sets the first-generation key that owns the section.
            own = {each.name for each in file.source.statements}
            owners = {key: next((each for each in owners_of(key) if each in context), None) for key in keys}
            keys = [key for key in keys if owners[key] in own - {None}]
        return FilePlan(expected, tuple(keys), translation.notes, translation.taken, is_whole)

    def _is_whole(self, path: Path) -> bool:
        """Checks whether a file configures a complete run. A file that was named explicitly needs no model."""
        config = self.files[path].config
        is_requested = self._folder is not None and path in self._paths
        return _is_run(config) or (is_requested and any(key in config for key in _LENGTH_KEYS))

    def _add(self, path: Path) -> None:
        if path in self.files or path in self.errors:
            return
        try:
            config = Config.fromfile(path, import_custom_modules=False)
            source = SourceFile(path)
        except FootplateError as error:
            self.errors[path] = error
            return
        bases, outside_bases = [], []
        for name in source.bases:
            base = Path(os.path.realpath(path.parent / name))
            is_below = self._folder is not None and base.is_relative_to(self._folder) and not is_installed(base)
            if "::" not in name and (base in self._paths or is_below):
                self._add(base)
                bases.append(base)
            else:
                outside_bases.append(name)
        self.files[path] = ConfigFile(source, config, tuple(bases), tuple(outside_bases))

    def _ancestors(self, path: Path) -> set[Path]:
        found: set[Path] = set()
        for base in self.files[path].bases:
            if base in self.files:
                found |= {base} | self._ancestors(base)
        return found


def is_installed(path: Path) -> bool:
    """Checks whether a file belongs to an installed package, so that no files may be written next to it."""
    return not {"site-packages", "dist-packages"}.isdisjoint(path.parts)


def _is_run(config: Config) -> bool:
    """Checks whether a config describes a complete run, with a model and a length."""
    return "model" in config and any(key in config for key in _LENGTH_KEYS)


def _is_translatable(config: Config) -> bool:
    """Checks whether a config is a valid first-generation config."""
    try:
        return is_first_generation(config)
    except FootplateError:
        return False


def config_difference(inherited: Mapping[str, Any], expected: Mapping[str, Any], keys: Iterable[str]) -> Values:
    """Returns the values that a file must add to the inherited config.

    A dict is merged into the inherited one. It contains `_delete_` if inherited keys must be removed. None removes an
    inherited key.
    """
    difference: Values = {}
    for key in keys:
        old, new = inherited.get(key), expected.get(key)
        if key not in expected:
            if old is not None:
                difference[key] = None
        elif key not in inherited or not isinstance(new, Mapping):
            if key not in inherited or not is_identical(old, new):
                difference[key] = new
        elif not isinstance(old, Mapping) or not old.keys() <= new.keys():
            difference[key] = {DELETE: True, **new}
        elif changed := config_difference(old, new, new):
            difference[key] = changed
    return difference


def is_identical(first: Any, second: Any) -> bool:
    """Checks whether two values and their types are equal. A tuple differs from a list, and True differs from 1."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return first.keys() == second.keys() and all(is_identical(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)):
        pairs = zip(first, second, strict=False)
        return type(first) is type(second) and len(first) == len(second) and all(is_identical(a, b) for a, b in pairs)
    return type(first) is type(second) and bool(first == second or (first != first and second != second))


def differing_keys(found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """Returns the top-level keys in which two configs differ. None is treated as absent."""
    keys = [*expected, *(key for key in found if key not in expected)]
    return [key for key in keys if not is_identical(found.get(key), expected.get(key))]
