"""Migrates single configs or folders of first-generation configs."""

import difflib
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from footplate.config import Config, KeyOrigin
from footplate.error_context import origin_of
from footplate.errors import ArgumentError, ConfigError, FootplateError
from footplate.openmmlab.first_generation.rewriting.plan import (
    ConfigFile,
    ConfigTree,
    FilePlan,
    config_difference,
    differing_keys,
)
from footplate.openmmlab.first_generation.rewriting.rewrite import rewrite
from footplate.openmmlab.first_generation.translation.draft import Kind, Note
from footplate.openmmlab.first_generation.translation.translate import (
    is_first_generation,
    translate,
)
from footplate.storage import commit_bytes

_SUFFIX = "_migrated"


class MigratedFile(NamedTuple):
    """The result of migrating a file.

    Attributes:
        source: The path of the old file.
        target: The path of the new file.
        text: The text of the new file, or None if the old file cannot be read.
        changed: Whether the text differs from that of the old file.
        notes: The notes about keys that are set in this file.
    """

    source: Path
    target: Path
    text: str | None
    changed: bool
    notes: tuple[Note, ...]

    def diff(self) -> str:
        """Returns a unified diff from the old to the new file."""
        if self.text is None:
            return ""
        before = self.source.read_text(encoding="utf-8-sig").splitlines(keepends=True)
        after = self.text.splitlines(keepends=True)
        return "".join(difflib.unified_diff(before, after, str(self.source), str(self.target)))


def migrate_file(path: Path, output: Path | None = None) -> list[MigratedFile]:
    """Migrates a config and its base files without writing anything to disk.

    Base files below the user's folder remain separate files and keep their paths relative to the config. The user's
    folder is the current folder if it contains the config, and otherwise the parent of the config's folder. If the new
    config is next to the old one, the suffix `_migrated` is added to the names of first-generation bases. All other
    bases, such as those of an installed package, are merged into the files that inherit from them.

    Args:
        path: The config.
        output: The path of the new config. By default, it is next to the old one.

    Returns:
        The migrated config first, then its bases.

    Raises:
        FootplateError: A file cannot be read.
        ConfigError: The config is not a first-generation config.
    """
    path = _real_path(path)
    if path.suffix != ".py":
        config = Config.fromfile(path, import_custom_modules=False)
        _check_generation(config)
        new: Any = translate(config)
        target = _real_path(output or path.with_name(f"{path.stem}{_SUFFIX}{path.suffix}"))
        note = Note(Kind.PERSON, "the file", "is written without comments, and its base files are merged into it")
        return [MigratedFile(path, target, str(new.dump()), True, (note,))]
    here = _real_path(Path.cwd())
    tree = ConfigTree([path], folder=here if path.is_relative_to(here) else path.parent.parent)
    for error in tree.errors.values():
        raise error
    _check_generation(tree.files[path].config)
    target = _real_path(output or path.with_name(f"{path.stem}{_SUFFIX}.py"))
    targets = {path: target}
    for base, file in tree.files.items():
        if base != path:
            targets[base] = _real_path(target.parent / os.path.relpath(base, path.parent))
            if targets[base] == base and is_first_generation(file.config):
                targets[base] = base.with_name(f"{base.stem}{_SUFFIX}.py")
    migrated = {file.source: file for file in _Migration(tree, targets, strict=True).run()}
    return [migrated.pop(path), *(file for file in migrated.values() if file.target != file.source)]


def migrate_tree(folder: Path, output: Path) -> list[MigratedFile]:
    """Migrates all .py configs in a folder and its subfolders without writing anything to disk.

    Args:
        folder: The folder.
        output: The folder of the new configs. They keep their relative paths.

    Raises:
        ConfigError: There is no config in the folder or its subfolders.
    """
    folder, output = _real_path(folder), _real_path(output)
    paths = sorted(path for path in folder.rglob("*.py") if not path.is_dir())
    if not paths:
        raise ConfigError("there is no .py file in this folder or its subfolders", found=str(folder))
    tree = ConfigTree(paths)
    migrated = _Migration(tree, {path: output / path.relative_to(folder) for path in tree.files}).run()
    for path, error in tree.errors.items():
        origin = error.origin or KeyOrigin(str(path), 1)
        note = Note(Kind.PERSON, "the file", f"cannot be read: {error.message}", origin)
        migrated.append(MigratedFile(path, output / path.relative_to(folder), None, False, (note,)))
    return migrated


def _real_path(path: Path) -> Path:
    """Resolves links as far as possible, because Path.resolve() raises an error for circular links."""
    return Path(os.path.realpath(path))


def _check_generation(config: Config) -> None:
    if is_first_generation(config):
        return
    origin = origin_of(config, next(iter(config), None)) or KeyOrigin(str(config.filename), 1)
    raise ConfigError("the config has no first-generation keys", origin=origin, notes=["There is nothing to migrate."])


class _Migration:
    """Rewrites the files of a tree, bases first, and checks that they resolve to the translated configs."""

    def __init__(self, tree: ConfigTree, targets: Mapping[Path, Path], *, strict: bool = False) -> None:
        self._tree = tree
        self._targets = targets
        self._strict = strict
        self._root = Path(os.path.commonpath([each.parent for each in targets.values()]))

    def run(self) -> list[MigratedFile]:
        """Returns the migrated files."""
        with tempfile.TemporaryDirectory() as folder:
            self._trial_folder = Path(folder)
            return [self._migrate(path, file) for path, file in self._tree.files.items()]

    def _migrate(self, path: Path, file: ConfigFile) -> MigratedFile:
        text, notes = file.source.text, list[Note]()
        try:
            plan = self._tree.plan(path)
            bases = self._new_bases(path, file, file.outside_bases if plan else ())
            if plan is not None:
                text, notes = self._rewritten(path, file, plan, bases)
            elif bases:
                text = rewrite(file.source, bases)
        except ConfigError as error:
            if self._strict:
                raise
            notes = [Note(Kind.PERSON, error.key or "the file", f"is not translated: {error.message}", error.origin)]
        self._write_trial(path, text)
        return MigratedFile(path, self._targets[path], text, text != file.source.text, tuple(notes))

    def _new_bases(self, path: Path, file: ConfigFile, inlined: Iterable[str]) -> dict[str, list[str]]:
        """Returns the new `_base_`, or an empty dict if it does not change. Inlined bases are left out."""
        names = []
        for name in file.source.bases:
            base = _real_path(path.parent / name)
            new = os.path.relpath(self._targets[base], self._targets[path].parent) if base in self._targets else name
            if os.path.normpath(name) == os.path.normpath(new):
                new = name
            elif not new.startswith(os.pardir):
                new = f"./{new}"
            if name not in inlined:
                names.append(new)
        return {} if names == file.source.bases else {"_base_": names}

    def _rewritten(
        self, path: Path, file: ConfigFile, plan: FilePlan, bases: Mapping[str, Any]
    ) -> tuple[str, list[Note]]:
        """Returns the new text and notes. Sections that do not resolve as expected are written as plain values."""
        inherited: dict[str, Any] = {}
        for base in file.bases:
            found = self._load_trial(base)
            if duplicates := [key for key in found if key in inherited]:
                raise ConfigError("two base files define the same section", key=duplicates[0])
            inherited.update(found)
        sections = config_difference(inherited, plan.expected, plan.keys)
        names, path_here = {statement.name for statement in file.source.statements}, str(file.source.path)
        notes = [
            note
            for note in plan.notes
            if note.key.partition(".")[0].partition("[")[0] in names
            and (note.origin is None or note.origin.file == path_here)
        ]
        by_value, deleted = list[str](), list[str]()
        for _ in range(3):
            text = rewrite(file.source, {**bases, **sections}, removed=plan.removed, by_value=by_value, deleted=deleted)
            wrong, left = self._check(path, text, plan)
            if not wrong and not left:
                return text, notes
            by_value = sorted({*by_value, *wrong})
            deleted = [key for key in left if key not in inherited]
            sections = {
                **sections,
                **config_difference(inherited, plan.expected, [key for key in (*wrong, *left) if key not in deleted]),
            }
        doubts = [Note(Kind.PERSON, key, "does not resolve to the translated value") for key in (*wrong, *left)]
        return text, [*notes, *doubts]

    def _check(self, path: Path, text: str, plan: FilePlan) -> tuple[list[str], list[str]]:
        """Returns the keys that do not resolve to the expected values, and the remaining first-generation keys."""
        self._write_trial(path, text)
        try:
            found = self._load_trial(path)
        except FootplateError:
            return list(plan.keys), []
        left = [key for key in found if key in plan.removed and key not in plan.expected and found[key] is not None]
        keys = [key for key in differing_keys(found, plan.expected) if key not in left]
        return keys if plan.is_whole else [key for key in keys if key in plan.keys], left

    def _trial_path(self, path: Path) -> Path:
        return self._trial_folder / self._targets[path].relative_to(self._root)

    def _load_trial(self, path: Path) -> dict[str, Any]:
        return dict(Config.fromfile(self._trial_path(path), import_custom_modules=False).to_dict())

    def _write_trial(self, path: Path, text: str) -> None:
        trial = self._trial_path(path)
        trial.parent.mkdir(parents=True, exist_ok=True)
        trial.write_text(text, encoding="utf-8")


def write_files(found: Iterable[MigratedFile], *, replace: bool) -> None:
    """Writes the new files.

    Args:
        found: The migrated files. Skips files that could not be read, and those that exist with the same text.
        replace: Whether to replace existing files.

    Raises:
        ArgumentError: A file already exists. Nothing is written.
        OSError: A file cannot be written.
    """
    contents: dict[Path, bytes] = {}
    for file in found:
        if file.text is not None:
            contents[file.target] = file.text.encode()
    existing = [path for path in contents if os.path.lexists(path)]
    unchanged = {path for path in existing if path.is_file() and path.read_bytes() == contents[path]}
    if not replace and (changed := [path for path in existing if path not in unchanged]):
        raise ArgumentError(f"'{changed[0]}' already exists", notes=["Use --force to replace it."])
    for path in contents.keys() - unchanged:
        commit_bytes(str(path), contents[path])
