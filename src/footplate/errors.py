"""What a user can mend, as exceptions.

    FootplateError                    anything a user can mend; the command line exits with its `exit_code`
    ├── ConfigError                   a config file or a value in it (also a ValueError)
    │   ├── ConfigSyntaxError         the file cannot be parsed
    │   ├── ConfigKeyError            a key that is not there, or nearly another one (also a KeyError)
    │   ├── ConfigAttributeError      the same, asked for as an attribute (also an AttributeError)
    │   └── OverrideError             an override from the command line
    ├── RegistryError
    │   ├── UnknownNameError          no such name in a registry (also a KeyError)
    │   ├── DuplicateNameError        two classes claim one name (also a KeyError)
    │   └── BuildError                wrong or missing argument, or a class of the wrong kind (also a TypeError)
    ├── ArgumentError                 a value that makes no sense (also a ValueError)
    ├── DataError                     a sample or a data set
    ├── NonFiniteError                a loss, a gradient or a weight is NaN or infinite; exit code 3
    ├── RankError                     processes that train together do not meet, do not agree, or one is lost
    ├── CheckpointError
    │   └── CheckpointDamagedError    the file is not what was written
    └── MissingExtraError             an optional package is not installed (also an ImportError)

An error says what is wrong, where, what was found and what would be right, in five lines at most.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from footplate.printable import printable

_LONGEST_VALUE = 160
_MOST_LINES = 5
_SHORT_WORD = 4
_MOST_CHANGES = 3
LONGEST_RUN = 10**12
_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


class _Missing:
    """Stands for "nothing was found"; a class, since classes keep their identity when an error is pickled."""


class Origin(NamedTuple):
    """Where a value was written."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


class FootplateError(Exception):
    """Something a user can mend.

    Args:
        message: What is wrong, in lower case, without a final period.
        origin: Where it was written.
        key: The key path, `optim_wrapper.optimizer.lr`.
        found: The value that was found.
        suggestion: The nearest right word.
        notes: Further lines.
    """

    exit_code = 2

    def __init__(
        self,
        message: str,
        *,
        origin: Origin | None = None,
        key: str = "",
        found: object = _Missing,
        suggestion: str | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.origin = origin
        self.key = str(key)
        self.found = found
        self.suggestion = suggestion
        self.notes = tuple(notes)

    def within(self, prefix: str) -> "FootplateError":
        """Puts `prefix` before the key path and returns the error itself."""
        if not self.key or not prefix:
            self.key = self.key or prefix
        elif self.key.startswith("["):
            self.key = prefix + self.key
        else:
            self.key = f"{prefix}.{self.key}"
        return self

    def __str__(self) -> str:
        lines = [self.message]
        place = [f"at {self.origin}"] if self.origin else []
        place += [f"key {self.key}"] if self.key else []
        if place:
            lines.append("  " + ", ".join(place))
        if self.found is not _Missing:
            lines.append(f"  found: {_shortened(_shown(self.found))}")
        if self.suggestion:
            lines.append(f"  did you mean '{self.suggestion}'?")
        lines += [f"  {note}" for note in self.notes]
        return printable("\n".join(lines[:_MOST_LINES]))

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions pickle by their positional arguments; workers send ours to the main process.
        return (self.__class__.__new__, (self.__class__, *self.args), self.__dict__)


class ConfigError(FootplateError, ValueError):
    """A config file, or a value in it, cannot be used."""


class ConfigSyntaxError(ConfigError):
    """A config file cannot be parsed."""


class ConfigKeyError(ConfigError, KeyError):
    """A key is missing from a config, or nearly is another one."""

    __str__ = FootplateError.__str__


class ConfigAttributeError(ConfigError, AttributeError):
    """A key that was asked for as an attribute is missing."""


class OverrideError(ConfigError):
    """An override from the command line cannot be applied."""


class RegistryError(FootplateError):
    """A registry cannot do what it was asked."""


class UnknownNameError(RegistryError, KeyError):
    """A registry holds no such name."""

    __str__ = FootplateError.__str__


class DuplicateNameError(RegistryError, KeyError):
    """Two classes claim one name."""

    __str__ = FootplateError.__str__


class BuildError(RegistryError, TypeError):
    """A class was given a wrong argument, lacks one, or is of the wrong kind."""


class ArgumentError(FootplateError, ValueError):
    """A value makes no sense where it stands."""


class DataError(FootplateError):
    """A sample cannot be read, or a data set cannot be used."""


class NonFiniteError(FootplateError):
    """A loss, a gradient or a weight is NaN or infinite.

    Args:
        message: What is, and since when.
        iteration: The first one it was so in, counted from 1; None where that is not known.
        notes: Further lines.
    """

    exit_code = 3

    def __init__(self, message: str, *, iteration: int | None = None, notes: Sequence[str] = ()) -> None:
        super().__init__(message, notes=notes)
        self.iteration = iteration


class ExitError(FootplateError):
    """Code of the user's own tried to end the process within a run."""

    exit_code = 1


class RankError(FootplateError):
    """Processes that train together do not meet, do not agree, or one of them is lost."""


class CheckpointError(FootplateError):
    """A checkpoint cannot be written, found or read."""


class CheckpointDamagedError(CheckpointError):
    """A checkpoint is not what was written."""


class MissingExtraError(FootplateError, ImportError):
    """An optional package is not installed.

    Args:
        package: The package to import.
        extra: The extra of footplate that brings it.
        why: What asked for it.
    """

    def __init__(self, package: str, *, extra: str, why: str) -> None:
        super().__init__(
            f"{why} needs the package '{package}', which is not installed",
            notes=[f"pip install 'footplate[{extra}]'"],
        )


def counted(count: int, noun: str) -> str:
    """Returns how many there are of something whose plural ends with s.

    >>> counted(1, "group"), counted(1200, "group")
    ('1 group', '1200 groups')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"


def every(interval: int, noun: str) -> str:
    """Returns how often something is done.

    >>> every(1, "epoch"), every(1200, "iteration")
    ('every epoch', 'every 1200 iterations')
    """
    return f"every {noun}" if interval == 1 else f"every {interval} {noun}s"


def nearest(word: object, candidates: Iterable[str]) -> str | None:
    """Returns the candidate that `word` most likely meant, or None when none is near.

    Example:
        >>> nearest("train_dataloder", ["train_dataloader", "val_dataloader"])
        'train_dataloader'
    """
    word = str(word)  # a config may hold anything where a word is due
    by_folded: dict[str, str] = {}
    for candidate in candidates:
        by_folded.setdefault(candidate.casefold(), candidate)
    # Two swapped letters of a short word leave little in common: SDG, SGD.
    cutoff = 0.6 if len(word) <= _SHORT_WORD else 0.72
    found = difflib.get_close_matches(word.casefold(), by_folded, n=1, cutoff=cutoff)
    return by_folded[found[0]] if found else None


def check_count(name: str, value: object, *, least: int = 1, most: int | None = None, key: str | None = None) -> int:
    """Returns `value` if it is a whole number of at least `least`.

    Args:
        name: What the number is called, in the message.
        value: The number.
        least: The smallest one that makes sense.
        most: The largest one that does.
        key: Its key path, `name` by default.

    Raises:
        ArgumentError: It is something else.

    >>> check_count("interval", 3)
    3
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ArgumentError(f"{name} must be a whole number of at least {least}", key=key or name, found=value)
    if most is not None and value > most:
        raise ArgumentError(f"{name} must be at most {most:,}", key=key or name, found=value)
    return value


def check_flag(name: str, value: object, *, key: str | None = None) -> bool:
    """Returns `value` if it is True or False: any other text would count as true, "no" too.

    Args:
        name: What the flag is called, in the message.
        value: The flag.
        key: Its key path, `name` by default.

    Raises:
        ArgumentError: It is something else.
    """
    if not isinstance(value, bool):
        raise ArgumentError(f"{name} must be True or False", key=key or name, found=value)
    return value


def check_score(name: str, value: object, *, key: str) -> float:
    """Returns the value of a metric as a number.

    Args:
        name: The metric.
        value: What the metric gave.
        key: The key of the config that asks for it.

    Raises:
        ArgumentError: It is no number, and no tensor or array of one number.
    """
    try:
        if isinstance(value, (str, bytes)):
            raise TypeError
        return float(value)  # type: ignore[arg-type]  # what is no number is refused below
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentError(f"the metric '{name}' is no single number", key=key, found=value) from error


def origin_of(mapping: object, key: object = None) -> Origin | None:
    """Returns where `mapping[key]` was written, or the mapping itself for None; None when it does not know."""
    origins = getattr(mapping, "_origins", None)
    if not isinstance(origins, Mapping):
        return None
    origin = origins.get(key) or origins.get(None)
    return origin if isinstance(origin, Origin) else None


class _Traced(dict[str, Any]):
    """A dict that knows where its entries were written."""

    _origins: Mapping[Any, Origin]


def with_origins(settings: Mapping[str, Any], source: object) -> dict[str, Any]:
    """Returns `settings` as a dict whose entries were written where those of `source` were."""
    traced = _Traced(settings)
    traced._origins = getattr(source, "_origins", {})
    return traced


def add_note(error: BaseException, note: str) -> None:
    """Has an error say one line more, which is shown however much the error says already."""
    if not isinstance(error, FootplateError):
        vars(error)["__notes__"] = [*getattr(error, "__notes__", ()), note]  # Python shows them, from 3.11 on
        return
    kept = error.notes
    error.notes = (*kept, note)
    while kept and not str(error).endswith(note):
        kept = kept[:-1]
        error.notes = (*kept, note)


@contextmanager
def at_key(prefix: str) -> Iterator[None]:
    """Lets errors that pass tell that they happened under the key path `prefix`."""
    try:
        yield
    except FootplateError as error:
        error.within(prefix)
        raise


@contextmanager
def located(source: object) -> Iterator[None]:
    """Lets errors that pass tell where in `source`, a config, the value under their key path was written."""
    try:
        yield
    except FootplateError as error:
        first = next((name for name, _ in _STEP.findall(error.key)), None)
        # A key that the config does not have was written nowhere: its origin would be that of the first base.
        if error.origin is None and first is not None and hasattr(source, "__contains__") and first in source:
            error.origin = origin_at(source, error.key)
        raise


def origin_at(source: object, path: str) -> Origin | None:
    """Returns where the value at a key path was written: the last origin on the way, as far as it leads."""
    origin, here = None, source
    for name, index in _STEP.findall(path):
        step = name or int(index)
        origin = origin_of(here, step) or origin
        try:
            here = here[step]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            break
    return origin


def changes_in(section: object, key: str = "") -> dict[str, Origin]:
    """Returns the key paths in a section that another file, or `--set`, wrote than the section itself.

    Args:
        section: A mapping of a config.
        key: Its own key path, which the others begin with.
    """
    found: dict[str, Origin] = {}
    for name, value in section.items() if isinstance(section, Mapping) else ():
        path = f"{key}.{name}" if key else str(name)
        own, origin = origin_of(section), origin_of(section, name)
        inner = origin_of(value)
        if isinstance(value, Mapping) and own and inner and inner.file == own.file:
            found |= changes_in(value, path)
        elif own and origin and origin.file != own.file:
            found[path] = origin
    return found


def describe_changes(section: object, key: str = "") -> list[str]:
    """Returns one note, for an error, of what changes a section of a base; none where nothing does.

    Args:
        section: A mapping of a config.
        key: Its own key path.
    """
    changes = [f"{path} ({origin})" for path, origin in changes_in(section, key).items()]
    more = f" and {len(changes) - _MOST_CHANGES} more" if len(changes) > _MOST_CHANGES else ""
    return [f"changed from the base: {', '.join(changes[:_MOST_CHANGES])}{more}"] if changes else []


def _shown(value: object) -> str:
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001 - of a user's class, or an integer with too many digits for Python
        return f"a {type(value).__name__} that cannot be shown: {type(error).__name__}"


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 3] + "..."
