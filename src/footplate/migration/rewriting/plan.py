"""Decides which file of a tree writes which section, and with which values."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from footplate.config import Config, ConfigDict
from footplate.errors import FootplateError
from footplate.migration.generations import is_first_generation
from footplate.migration.key_map import OWNERS, owners_of
from footplate.migration.notes import Note
from footplate.migration.rewriting.source import SourceFile
from footplate.migration.rules import RULES
from footplate.migration.translation import translate_sections

Values = dict[str, Any]

OLD_KEYS = frozenset(key for rule in RULES for key in rule.keys or () if key not in ("model", "train_cfg", "test_cfg"))
"""The keys of the first generation that no second-generation file holds."""

_LENGTHS = ("runner", "total_epochs", "total_iters")


class ConfigFile(NamedTuple):
    """A file of a tree.

    Attributes:
        source: The file as it is written.
        config: What it resolves to, with its bases.
        bases: The files it inherits from that are of the tree too.
        foreign: What it inherits from that is not, as it is named.
    """

    source: SourceFile
    config: Config
    bases: tuple[Path, ...]
    foreign: tuple[str, ...]


class FilePlan(NamedTuple):
    """What a file has to write.

    Attributes:
        wanted: The config that is to come out of it and its bases.
        keys: The top-level keys that it speaks of.
        notes: What there is to say about the keys of the old config.
        taken: The variables of the old file that are no longer what they were.
        is_whole: Whether the config is a run of its own, rather than a part of others.
    """

    wanted: Values
    keys: tuple[str, ...]
    notes: tuple[Note, ...]
    taken: frozenset[str]
    is_whole: bool


class ConfigTree:
    """Files that inherit from each other.

    Args:
        paths: The files, their absolute paths.
        with_bases: Whether files that they inherit from belong to the tree too, wherever they lie.

    Raises:
        FootplateError: A file cannot be read.

    Attributes:
        members: The files by path, each behind those it inherits from.
        broken: Files that cannot be read, with the error.
    """

    def __init__(self, paths: Iterable[Path], *, with_bases: bool = False) -> None:
        self.members: dict[Path, ConfigFile] = {}
        self.broken: dict[Path, FootplateError] = {}
        self._paths = set(paths)
        self._with_bases = with_bases
        for path in sorted(self._paths):
            self._add(path)
        self._users = self._find_users()
        self._withheld: set[tuple[Path, str]] = set()

    def plan(self, path: Path) -> FilePlan | None:
        """Returns what a file has to write, or None if it needs no translation.

        Raises:
            ConfigError: It cannot be translated.
        """
        member = self.members[path]
        if not is_first_generation(member.config):
            return None
        is_whole = self._is_whole(path)
        context = _over({} if is_whole else self._context(path), member.config)
        translation = translate_sections(context)
        wanted = translation.sections.to_dict()
        made = {each[0] for each in translation.sources}
        if wanted.get("model") != context.get("model"):
            made.add("model")
        keys = [key for key in OWNERS if key in wanted and key in made]
        keys += [key for key in wanted if key in made and key not in OWNERS]
        if not is_whole:
            keys = [key for key in keys if (path, key) not in self._withheld and self._hosts(member, key, context)]
        return FilePlan(wanted, tuple(keys), translation.notes, translation.taken, is_whole)

    def withhold(self, path: Path, key: str) -> bool:
        """Removes a section from a file that is a part of a config, and from its bases; returns whether one had it."""
        parts = [each for each in {path} | self._above(path) if not self._is_whole(each)]
        plans = {each: self.plan(each) for each in parts if _concerns(self.members[each].config)}
        holders = {(each, key) for each, plan in plans.items() if plan is not None and key in plan.keys}
        self._withheld |= holders
        return bool(holders)

    def _is_whole(self, path: Path) -> bool:
        """Checks whether a file is a complete run; the model of a requested file may come from elsewhere."""
        config = self.members[path].config
        is_asked_for = self._with_bases and path in self._paths
        return _is_run(config) or (is_asked_for and any(key in config for key in _LENGTHS))

    def _add(self, path: Path) -> None:
        if path in self.members or path in self.broken:
            return
        try:
            config = Config.fromfile(path, import_custom_modules=False)
            source = SourceFile(path)
        except FootplateError as error:
            self.broken[path] = error
            return
        bases, foreign = [], []
        for name in source.bases:
            base = Path(os.path.realpath(path.parent / name))
            if "::" not in name and (base in self._paths or self._with_bases):
                self._add(base)
                bases.append(base)
            else:
                foreign.append(name)
        self.members[path] = ConfigFile(source, config, tuple(bases), tuple(foreign))

    def _find_users(self) -> dict[Path, list[Path]]:
        """Finds the runs that inherit from each file, directly or indirectly."""
        users: dict[Path, list[Path]] = {path: [] for path in self.members}
        for path, member in self.members.items():
            if _is_run(member.config) and _concerns(member.config):
                for base in self._above(path):
                    users[base].append(path)
        return users

    def _above(self, path: Path) -> set[Path]:
        found: set[Path] = set()
        for base in self.members[path].bases:
            if base in self.members:
                found |= {base} | self._above(base)
        return found

    def _context(self, path: Path) -> Values:
        """Returns the settings that most runs combine a file with."""
        runs = [self.members[user].config for user in self._users[path]]
        context: Values = {}
        for key in (*OLD_KEYS, "model"):
            said = [run[key] for run in runs if key in run]
            if len(said) * 2 > len(runs):
                (text, _), *_ = Counter(map(repr, said)).most_common(1)
                context[key] = next(value for value in said if repr(value) == text)
        return context

    def _hosts(self, member: ConfigFile, key: str, context: Mapping[str, Any]) -> bool:
        """Checks whether a section belongs in this part of a config, since it writes the section's first owner."""
        owner = next((each for each in owners_of(key) if each in context), None)
        return owner is not None and any(each.name == owner for each in member.source.statements)


def _over(context: Values, config: Config) -> ConfigDict:
    """Returns the keys of a config, completed from its context."""
    merged = ConfigDict({**context, **{key: config[key] for key in config}})
    merged._origins.update(config._origins)
    return merged


def _is_run(config: Config) -> bool:
    """Checks whether a config is a complete run: it has a model and a length."""
    return "model" in config and any(key in config for key in _LENGTHS)


def _concerns(config: Config) -> bool:
    """Checks whether there is something to translate."""
    try:
        return is_first_generation(config)
    except FootplateError:
        return False
