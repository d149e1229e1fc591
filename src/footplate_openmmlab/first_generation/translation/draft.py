"""Defines `Draft` (a config being translated), `Note` (a line of the migration report) and `Rule`."""

import enum
import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import partialmethod
from typing import Any, NamedTuple

from footplate.checks import check_count
from footplate.config import ConfigDict, KeyOrigin
from footplate.error_context import located, location_prefix, origin_at, origin_of
from footplate.errors import ConfigError, Origin
from footplate.messages import nearest
from footplate_openmmlab.first_generation.translation.key_map import Path


class Kind(enum.Enum):
    """The kind of a note: how much attention it needs from the user."""

    BECAME = "became"
    """The key was translated, or removed without an effect on the run."""
    WARNING = "warning"
    """A setting was lost or may not work as intended, on this machine or in general."""
    PERSON = "person"
    """The user must check the result, because it depends on code or data outside the config."""


class Note(NamedTuple):
    """One line of the migration report.

    Attributes:
        kind: How much attention the note needs.
        key: The first-generation key, such as `evaluation.start`.
        text: The result of the translation, or what to check manually and why.
        origin: The file and line of the key.
        near: For an unknown key, a known key with a similar name, or None.
    """

    kind: Kind
    key: str
    text: str
    origin: Origin | None = None
    near: str | None = None

    def __str__(self) -> str:
        return f"{location_prefix(self.origin)}{self.key}: {self.text}"


class Draft:
    """A config that is being translated by rules.

    A rule takes the keys that it translates and writes the result. Keys that no rule takes are kept. Existing
    second-generation sections are also kept and take precedence.

    Args:
        original: The first-generation config.
        device: The device type of the run, such as "cuda", or None if unknown.

    Attributes:
        original: The first-generation config, unchanged.
        scope: The config's `default_scope`, or None.
        by_epoch: Whether the length of the run is given in epochs rather than iterations. If no length is set, False
            only for an iteration-based runner.
        length: The number of epochs or iterations, or None if the config does not set it.
        remaining: The keys of `original` that no rule has taken yet.
        translated: The second-generation sections written so far.
        notes: The notes written so far.
        sources: Maps each key path written so far to its first-generation key.

    Raises:
        ConfigError: `runner` is not a dict, or sets both `max_epochs` and `max_iters`.
        ArgumentError: The length of the run is not a positive integer.
    """

    def __init__(self, original: Mapping[str, Any], *, device: str | None = None) -> None:
        self.original = original
        self.device = device
        self.scope = original.get("default_scope")
        self.remaining: dict[str, Any] = dict(original)
        self.translated: dict[str, Any] = {}
        self.notes: list[Note] = []
        self.sources: dict[Path, str] = {}
        self.source = ""
        with located(original):
            self.by_epoch, self.length = self._run_length()

    def take(self, key: str) -> Any:
        """Removes a key from `remaining`, and returns its value (a copy if it is a dict), or None if it is missing."""
        value = self.remaining.pop(key, None)
        return ConfigDict(value) if isinstance(value, Mapping) else value

    def write(self, path: str, value: Any, source: str = "") -> None:
        """Writes a value to a key path of the second-generation config.

        Args:
            path: The key path.
            value: The value.
            source: The first-generation key; by default, the first of the rule's keys that the config contains.
        """
        *parents, last = path.split(".")
        section = self.translated
        for part in parents:
            section = section.setdefault(part, {})
        section[last] = value
        self.sources[tuple(path.split("."))] = source or self.source

    def write_all(self, path: str, values: Mapping[str, Any]) -> None:
        """Writes several values under a key path."""
        for key, value in values.items():
            self.write(f"{path}.{key}", value)

    def append(self, path: str, value: Any) -> None:
        """Appends an entry to a list in the second-generation config."""
        entries = self.translated.setdefault(path, [])
        entries.append(value)
        self.sources[(path, str(len(entries) - 1))] = self.source

    def note(self, kind: Kind, key: str, text: str, *, known: Iterable[str] = ()) -> None:
        """Adds a note. For a misspelled key, suggests one of the `known` keys."""
        near = nearest(key.rpartition(".")[2], known)
        hint = f"; did you mean '{near}'?" if near else ""
        self.notes.append(Note(kind, key, text + hint, self.origin(key), near))

    became = partialmethod(note, Kind.BECAME)
    """Adds a note about how a key was translated."""
    warn = partialmethod(note, Kind.WARNING)
    """Adds a note about a setting that cannot be kept."""
    ask = partialmethod(note, Kind.PERSON)
    """Adds a note asking the user to check a setting."""

    def note_result(self, key: str) -> None:
        """Adds a note that lists the paths in the new config that replace the old key `key`.

        If there are no such paths, the note says that the key was removed, unless the key already has a note.
        """
        paths = dict.fromkeys(
            ".".join(part for part in path if not part.isdigit()) for path, old in self.sources.items() if old == key
        )
        if paths or not any(note.key == key for note in self.notes):
            self.became(key, ", ".join(paths) or "removed: no setting is needed")

    def origin(self, key: str) -> Origin | None:
        """Returns the file and line of a key path in the original config, or of its nearest known parent."""
        return origin_at(self.original, key)

    def _run_length(self) -> tuple[bool, int | None]:
        runner = self.original.get("runner") or {}
        if not isinstance(runner, Mapping):
            raise ConfigError("runner must be a dict", key="runner", found=runner)
        lengths = {f"runner.{key}": runner[key] for key in ("max_epochs", "max_iters") if runner.get(key) is not None}
        if len(lengths) > 1:
            message = "runner must have exactly one of 'max_epochs' and 'max_iters'"
            raise ConfigError(message, key="runner", found=dict(runner))
        lengths |= {key: self.original.get(key) for key in ("total_epochs", "total_iters")}
        for key, length in lengths.items():
            if length is not None:
                return key.endswith("epochs"), check_count("the length of a run", length, key=key)
        return not str(runner.get("type", "")).startswith("Iter"), None


def with_origins(values: Mapping[str, Any], source: object, old_names: Mapping[str, str] | None = None) -> ConfigDict:
    """Returns `values` as a config section. Its keys get the origins (file and line) of the keys in `source`.

    `old_names` maps the names of keys to their names in `source`, if they differ.
    """
    section = ConfigDict(values)
    for key in section:
        origin = origin_of(source, (old_names or {}).get(key, key))
        if origin is not None:
            section._origins[key] = origin if isinstance(origin, KeyOrigin) else KeyOrigin(*origin)
    return section


class Rule(NamedTuple):
    """A rule for translating one or more first-generation keys.

    Attributes:
        id: The rule's name in the docs.
        description: A description, and an example in Markdown for docs and tests: the old keys, "becomes", the new keys
            or "nothing.", and after "in a config with", the keys that the rule reads but does not translate.
        keys: The top-level keys that trigger the rule. A rule without keys always applies.
        apply: Applies the rule to a draft.
    """

    id: str
    description: str
    keys: tuple[str, ...]
    apply: Callable[[Draft], None]


def rule(*keys: str) -> Callable[[Callable[[Draft], None]], Rule]:
    """Returns a decorator that converts a function into a rule for `keys`.

    The function's name and docstring become the rule's id and description.
    """
    return lambda apply: Rule(apply.__name__.replace("_", "-"), inspect.getdoc(apply) or "", keys, apply)
