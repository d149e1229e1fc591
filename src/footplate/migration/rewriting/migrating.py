"""Migrates one config file, or a tree of them."""

import difflib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from footplate.config import Config, KeyOrigin
from footplate.error_context import origin_of
from footplate.errors import ConfigError, FootplateError
from footplate.migration.generations import SECOND_GENERATION_KEYS, is_first_generation
from footplate.migration.notes import Kind, Note
from footplate.migration.rewriting.differences import difference, differing_keys
from footplate.migration.rewriting.planning import Member, Plan, Tree
from footplate.migration.rewriting.rewriting import quoter, rewritten

_SUFFIX = "_migrated"


class Migrated(NamedTuple):
    """What became of a file.

    Attributes:
        source: The old file.
        target: Where the new one belongs.
        text: The text of the new one; that of the old one where nothing is to be said otherwise, None where that is
            no text.
        changed: Whether it differs from the old one.
        notes: What there is to say, of keys that were written in this file.
    """

    source: Path
    target: Path
    text: str | None
    changed: bool
    notes: tuple[Note, ...]

    def diff(self) -> str:
        """Returns the difference to the old file, as the tool `diff` writes it."""
        if self.text is None:
            return ""
        before = self.source.read_text(encoding="utf-8-sig").splitlines(keepends=True)
        after = self.text.splitlines(keepends=True)
        return "".join(difflib.unified_diff(before, after, str(self.source), str(self.target)))


def migrate_file(path: Path, output: Path | None = None) -> list[Migrated]:
    """Migrates a config and the files it inherits from, and writes nothing.

    The bases stay files of their own, as far from the new config as the old ones are from the old. Where another
    file stands in the way, as it does beside the old config, the name of a base that changes gets an ending.

    Args:
        path: The config.
        output: Where the new one belongs; beside the old one by default.

    Returns:
        The config first, then its bases.

    Raises:
        FootplateError: A file cannot be read.
        ConfigError: Nothing in it is of the first generation.
    """
    path = _real(path)
    if path.suffix != ".py":
        return [_migrate_data(path, output)]
    tree = Tree([path], with_bases=True)
    for error in tree.broken.values():
        raise error
    _check_generation(tree.members[path].config)
    target = _real(output or path.with_name(f"{path.stem}{_SUFFIX}.py"))
    mirrored = {each: _mirrored(each, path, target) for each in tree.members}
    found = {each.source: each for each in _Migration(tree, mirrored, strict=True).run()}
    taken = {each: _free(made, each != path) for each, made in found.items()}
    if taken != mirrored:
        found = {each.source: each for each in _Migration(tree, taken, strict=True).run()}
    return [found[path], *(each for source, each in found.items() if source != path and each.target != source)]


def migrate_tree(folder: Path, output: Path) -> list[Migrated]:
    """Migrates all .py configs below a folder, and writes nothing.

    Args:
        folder: The folder.
        output: Where the new ones belong, at the same places below it.

    Raises:
        ConfigError: There is no config below the folder.
    """
    folder, output = _real(folder), _real(output)
    paths = sorted(_within(folder, each) for each in folder.rglob("*.py") if not each.is_dir())
    if not paths:
        raise ConfigError("there is no .py file below this folder", found=str(folder))
    tree = Tree(paths)
    found = _Migration(tree, {path: output / path.relative_to(folder) for path in tree.members}).run()
    return found + [_unread(path, output / path.relative_to(folder), error) for path, error in tree.broken.items()]


def _real(path: Path) -> Path:
    """Returns where a path leads, as far as links go; Path.resolve() fails on those that go in circles."""
    return Path(os.path.realpath(path))


def _within(folder: Path, path: Path) -> Path:
    """Returns the place of a file in a tree: where a link leads, unless that is elsewhere."""
    place = _real(path)
    return place if place.is_relative_to(folder) and place.exists() else path


def _unread(path: Path, target: Path, error: FootplateError) -> Migrated:
    note = Note(Kind.PERSON, "the file", f"cannot be read: {error.message}", error.origin or KeyOrigin(str(path), 1))
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return Migrated(path, target, None, False, (note,))
    return Migrated(path, target, text, False, (note,))


def _check_generation(config: Config) -> None:
    if is_first_generation(config):
        return
    is_second = any(key in config for key in SECOND_GENERATION_KEYS)
    what = "the config is of the second generation already" if is_second else "nothing here is of the first generation"
    origin = origin_of(config, next(iter(config), None)) or KeyOrigin(str(config.filename), 1)
    raise ConfigError(what, origin=origin, notes=["there is nothing to migrate"])


class _CollisionError(Exception):
    """Two bases of a file say the same section, which no config may inherit twice."""

    def __init__(self, key: str, bases: tuple[Path, ...]) -> None:
        super().__init__(key)
        self.key = key
        self.bases = bases


class _Migration:
    """Rewrites the files of a tree, each behind those it inherits from, and checks that they resolve as wanted."""

    def __init__(self, tree: Tree, targets: Mapping[Path, Path], *, strict: bool = False) -> None:
        self._tree = tree
        self._targets = targets
        self._strict = strict
        self._root = Path(os.path.commonpath([each.parent for each in targets.values()]))

    def run(self) -> list[Migrated]:
        """Returns what becomes of each file; a section that two bases would say is left to one of them."""
        while True:
            with tempfile.TemporaryDirectory() as folder:
                self._trial = Path(folder)
                try:
                    return [self._migrate(path, member) for path, member in self._tree.members.items()]
                except _CollisionError as found:
                    # The last one that is a part of configs gives way; whoever needs the section says it itself.
                    if not any(self._tree.withhold(base, found.key) for base in reversed(found.bases)):
                        raise ConfigError("two bases say the same section", key=found.key) from found

    def _migrate(self, path: Path, member: Member) -> Migrated:
        target = self._targets[path]
        try:
            plan = self._tree.plan(path)
        except ConfigError as error:
            if self._strict:
                raise
            note = Note(Kind.PERSON, error.key or "the file", f"is not translated: {error.message}", error.origin)
            return self._left(path, member, (note,))
        if plan is None:
            return self._left(path, member, ())
        text, notes = self._written(path, member, plan, self._renamed(path, member, flattened=True))
        self._try(path, text)
        return Migrated(path, target, text, text != member.source.text, tuple(notes))

    def _left(self, path: Path, member: Member, notes: tuple[Note, ...]) -> Migrated:
        renamed = self._renamed(path, member, flattened=False)
        text = rewritten(member.source, {}, renamed=renamed) if renamed else member.source.text
        self._try(path, text)
        return Migrated(path, self._targets[path], text, text != member.source.text, notes)

    def _renamed(self, path: Path, member: Member, *, flattened: bool) -> dict[str, str | None]:
        """Other names for bases: where they lie now, and none for those of other packages, which are written out."""
        renamed: dict[str, str | None] = dict.fromkeys(member.foreign if flattened else ())
        for name in member.source.bases:
            base = _real(path.parent / name)
            if name not in renamed and base in self._targets:
                new = os.path.relpath(self._targets[base], self._targets[path].parent)
                if os.path.normpath(name) != new:
                    renamed[name] = new if new.startswith(os.pardir) else f"./{new}"
        return renamed

    def _written(
        self, path: Path, member: Member, plan: Plan, renamed: dict[str, str | None]
    ) -> tuple[str, list[Note]]:
        """Writes with the old file's expressions, then with values in place of those that came out otherwise."""
        inherited = self._inherited(member)
        said = difference(inherited, plan.wanted, plan.keys, quoter(member.source, plan.taken).says)
        notes, by_value, deleted = _notes_of(member, plan, said), list[str](), list[str]()
        for _ in range(3):
            text = rewritten(member.source, said, gone=plan.taken, renamed=renamed, by_value=by_value, deleted=deleted)
            wrong, left = self._wrong(path, text, plan)
            if not wrong and not left:
                return text, notes
            by_value = sorted({*by_value, *wrong})
            deleted = [key for key in left if key not in inherited]
            said = {
                **said,
                **difference(inherited, plan.wanted, [key for key in (*wrong, *left) if key not in deleted]),
            }
        doubts = [Note(Kind.PERSON, key, "does not read back as it should") for key in (*wrong, *left)]
        return text, [*notes, *doubts]

    def _inherited(self, member: Member) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for base in member.bases:
            found = Config.fromfile(self._place(base), import_custom_modules=False).to_dict()
            twice = [key for key in found if key in merged]
            if twice:
                raise _CollisionError(twice[0], member.bases)
            merged.update(found)
        return merged

    def _wrong(self, path: Path, text: str, plan: Plan) -> tuple[list[str], list[str]]:
        """Returns the keys that do not come out as wanted, and old keys that are left."""
        self._try(path, text)
        try:
            found = Config.fromfile(self._place(path), import_custom_modules=False).to_dict()
        except FootplateError:
            return list(plan.keys), []
        left = [key for key in found if key in plan.taken and key not in plan.wanted and found[key] is not None]
        keys = [key for key in differing_keys(found, plan.wanted) if key not in left]
        return keys if plan.is_whole else [key for key in keys if key in plan.keys], left

    def _place(self, path: Path) -> Path:
        return self._trial / self._targets[path].relative_to(self._root)

    def _try(self, path: Path, text: str) -> None:
        place = self._place(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")


def _notes_of(member: Member, plan: Plan, said: Mapping[str, Any]) -> list[Note]:
    """Returns the notes on what the file itself writes; that on the model where its adapter is named."""
    own, path = {each.name for each in member.source.statements}, str(member.source.path)
    found = []
    for note in plan.notes:
        key = note.key.partition(".")[0].partition("[")[0]
        is_here = key in own and (note.origin is None or note.origin.file == path)
        if ("model_adapter" in said) if note.key == "model" else is_here:
            found.append(note)
    return found


def _mirrored(base: Path, path: Path, target: Path) -> Path:
    """Where a base belongs: as far from the new config as the old one is from the old."""
    return target if base == path else _real(target.parent / os.path.relpath(base, path.parent))


def _free(made: Migrated, is_base: bool) -> Path:
    target = made.target
    if is_base and target.exists() and target.read_text(encoding="utf-8") != made.text:
        return target.with_name(f"{target.stem}{_SUFFIX}{target.suffix}")
    return target


def _migrate_data(path: Path, output: Path | None) -> Migrated:
    """Migrates a .json, .yaml or .toml config into one file, without comments."""
    from footplate.migration.translating import translate

    config = Config.fromfile(path, import_custom_modules=False)
    _check_generation(config)
    new: Any = translate(config)
    target = _real(output or path.with_name(f"{path.stem}{_SUFFIX}{path.suffix}"))
    note = Note(Kind.PERSON, "the file", "is written in whole, with what it inherited and without comments")
    return Migrated(path, target, str(new.dump()), True, (note,))
