"""The state of a translation: the rest of the old config and the new one so far."""

from collections.abc import Callable, Mapping
from typing import Any

from footplate.config import ConfigDict, KeyOrigin
from footplate.error_context import origin_of
from footplate.errors import ConfigError, Origin
from footplate.migration.key_map import Path
from footplate.migration.notes import Kind, Note
from footplate.migration.policies import Length

_ABSENT = object()
# What the engine names itself: a config of a package that is another's base says there whose names they are.
_ENGINE = ("checkpoint_config", "evaluation", "log_config", "lr_config", "momentum_config", "runner")


class Draft:
    """The config that translation rules read from and write to.

    A rule takes the keys it understands and writes what they become. Keys that no rule takes stay as they are, and
    so do second-generation sections that the config has already: what they say counts.

    Args:
        given: The first-generation config.
        device: The type of device that the run will have, None where nobody knows: "cpu", "cuda".
        knows_hook: Tells whether a hook of some name is registered; None where nobody knows.

    Attributes:
        given: The config as it was given.
        rest: What is left of it.
        made: What is written of the new one.
        notes: What there is to say.
        sources: For each path that was written, the first-generation key that it comes from.
    """

    def __init__(
        self, given: Mapping[str, Any], *, device: str | None = None, knows_hook: Callable[[str], bool] | None = None
    ) -> None:
        self.given = given
        self.device = device
        self.knows_hook = knows_hook
        self.rest: dict[str, Any] = dict(given)
        self.made: dict[str, Any] = {}
        self.notes: list[Note] = []
        self.sources: dict[Path, str] = {}

    @property
    def by_epoch(self) -> bool:
        """Whether the run counts epochs, which is the default."""
        runner = self.given.get("runner")
        if isinstance(runner, Mapping) and "max_iters" not in runner and "max_epochs" not in runner:
            return not str(runner.get("type", "")).startswith("Iter")
        return run_length(self.given).by_epoch

    @property
    def length(self) -> int | None:
        """The length of the run in epochs or iterations, or None if the config does not say.

        Raises:
            ConfigError: It is not a positive number.
        """
        runner = self.given.get("runner")
        if isinstance(runner, Mapping) and "max_iters" not in runner and "max_epochs" not in runner:
            return None
        found = run_length(self.given)
        length: Any = found.epochs if found.iters is None else found.iters
        if length is not None and (isinstance(length, bool) or not isinstance(length, int) or length < 1):
            within = "runner." if runner is not None else "total_"
            unit = ("max_" if runner is not None else "") + ("epochs" if found.iters is None else "iters")
            key = within + unit
            raise ConfigError(
                "the length of a run must be a positive number", key=key, found=length, origin=self.origin(key)
            )
        return length

    def take(self, key: str, default: Any = None) -> Any:
        """Removes a key of the old config and returns its value; a dict arrives as a copy."""
        value = self.rest.pop(key, default)
        if not isinstance(value, Mapping):
            return value
        return _without_scope(value) if key in _ENGINE else ConfigDict(value)

    def write(self, path: str, value: Any, source: str) -> None:
        """Writes a value of the new config.

        Args:
            path: Where, `default_hooks.checkpoint.interval`.
            value: What.
            source: The first-generation key that it comes from.
        """
        *above, last = path.split(".")
        holder = self.made
        for part in above:
            holder = holder.setdefault(part, {})
        holder[last] = value
        self.sources[tuple(path.split("."))] = source

    def write_all(self, path: str, values: Mapping[str, Any], source: str) -> None:
        """Writes several values under one path."""
        for key, value in values.items():
            self.write(f"{path}.{key}", value, source)

    def append(self, path: str, value: Any, source: str) -> None:
        """Adds an entry to a list of the new config."""
        held = self.made.setdefault(path, [])
        held.append(value)
        self.sources[(path, str(len(held) - 1))] = source

    def became(self, key: str, text: str) -> None:
        """Adds a note on what a key became."""
        self._note(Kind.BECAME, key, text)

    def warn(self, key: str, text: str, *, near: str | None = None) -> None:
        """Adds a note on a meaning that cannot be kept; `near` is the known key that an unknown one resembles."""
        self._note(Kind.WARNING, key, text, near)

    def ask(self, key: str, text: str, *, near: str | None = None) -> None:
        """Adds a note on what a person has to check; `near` is the known key that an unknown one resembles."""
        self._note(Kind.PERSON, key, text, near)

    def origin(self, key: str) -> Origin | None:
        """Returns the origin of a key path of the old config, or of its nearest parent."""
        holder: Any = self.given
        found: Origin | None = None
        for part in key.split("."):
            if not isinstance(holder, Mapping):
                break
            found = origin_of(holder, part) or found
            holder = holder.get(part)
        return found

    def _note(self, kind: Kind, key: str, text: str, near: str | None = None) -> None:
        hint = f"; did you mean '{near}'?" if near else ""
        self.notes.append(Note(kind, key, text + hint, self.origin(key), near))


def run_length(cfg: Mapping[str, Any]) -> Length:
    """Returns how long a first-generation config trains: so many epochs, or so many iterations.

    Raises:
        ConfigError: `runner` gives neither, or both.
    """
    runner = cfg.get("runner")
    if runner is None:
        return Length(cfg.get("total_epochs"), None if cfg.get("total_epochs") else cfg.get("total_iters"))
    if not isinstance(runner, Mapping):
        raise ConfigError("runner must be a dict", key="runner", found=runner)
    epochs, iters = runner.get("max_epochs"), runner.get("max_iters")
    if (epochs is None) == (iters is None):
        raise ConfigError(
            'runner has one of "max_epochs" and "max_iters"', key="runner", found=dict(runner), origin=origin_of(runner)
        )
    return Length(epochs, iters)


def section(values: Mapping[str, Any], source: object, words: Mapping[str, str] | None = None) -> ConfigDict:
    """Returns a section whose keys have the origins of another one's.

    Args:
        values: The section.
        source: The mapping that it comes from.
        words: For keys that have another name in `source`, that name.
    """
    made = ConfigDict(values)
    for key in made:
        origin = origin_of(source, (words or {}).get(key, key))
        if origin is not None:
            made._origins[key] = origin if isinstance(origin, KeyOrigin) else KeyOrigin(*origin)
    return made


def _without_scope(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(_without_scope(item) for item in value)
    if not isinstance(value, Mapping):
        return value
    held = ConfigDict({name: _without_scope(item) for name, item in value.items() if name != "_scope_"})
    held._origins.update(getattr(value, "_origins", {}))
    return held
