"""Exceptions for problems that the user can fix.

    FootplateError                    base class; the command line exits with its `exit_code`
    ├── ConfigError                   an invalid config file or value (also a ValueError)
    │   ├── ConfigSyntaxError         the file cannot be parsed
    │   ├── ConfigKeyError            a key is missing, misspelled or not allowed (also a KeyError)
    │   ├── ConfigIndexError          a list has no such index (also a KeyError)
    │   ├── ConfigAttributeError      a key accessed as an attribute is missing (also an AttributeError)
    │   ├── ConfigTypeError           a value has the wrong type (also a TypeError)
    │   └── OverrideError             an override from the command line
    ├── RegistryError
    │   ├── UnknownNameError          the registry has no such name (also a KeyError)
    │   ├── DuplicateNameError        two classes claim the same name (also a KeyError)
    │   └── BuildError                a wrong or missing argument, or a class of the wrong type (also a TypeError)
    ├── ArgumentError                 an invalid value (also a ValueError, and an AssertionError as in OpenMMLab)
    ├── DataError                     a sample or dataset cannot be used
    │   └── StorageError              remote data cannot be read or copied to the local disk
    ├── NonFiniteError                a loss, a gradient or a weight is NaN or infinite; exit code 3
    ├── ExitError                     user code tried to exit the process during a run; exit code 1
    ├── RankError                     ranks disagree or cannot connect, or a rank is lost
    ├── CheckpointError
    │   └── CheckpointDamagedError    the content differs from what was written
    └── MissingExtraError             an optional package is not installed (also an ImportError)

A message has at most five lines: what is wrong, where, what was found, and what to do. `footplate.error_context` adds
the location.
"""

import importlib
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from footplate.extensions import recipe_folders
from footplate.messages import printable

_MAX_VALUE_LENGTH = 160
_MAX_LINES = 5
PACKAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")
"""The folder of footplate, with a trailing separator."""
PACKAGES = os.path.dirname(PACKAGE)
"""The start of the paths of all of footplate's packages, which lie in one folder and begin with `footplate`."""


_NAMES = {"footplate", *(name for name in os.listdir(os.path.dirname(PACKAGES)) if name.startswith("footplate_"))}


def is_own_module(name: str | None) -> bool:
    """Checks whether a module is in one of footplate's packages."""
    return (name or "").partition(".")[0] in _NAMES


class _Missing:
    """Marks a missing `found` argument. A class, because an instance would become a different object when pickled."""


class Origin(NamedTuple):
    """The file and line where a value was set. Line 0 means that the line is unknown."""

    file: str
    line: int

    def __str__(self) -> str:
        file = shown_path(self.file)
        return f"{file}:{self.line}" if self.line else file


def shown_path(file: str) -> str:
    """Shortens a path for display.

    Paths in the current folder become relative, and paths of recipes become `footplate::name`.
    """
    if not os.path.isabs(file):
        return file
    for folder in recipe_folders():
        if file.startswith(folder):
            return f"footplate::{file[len(folder) :]}"
    try:
        relative = os.path.relpath(file)
    except (ValueError, OSError):  # another drive; a working directory that was removed
        return file
    return file if relative.startswith(os.pardir) else relative


class FootplateError(Exception):
    """Base class for problems that the user can fix.

    Args:
        message: A sentence that states the problem.
        origin: The file and line where the value was set.
        key: The key path in the config, such as `optim_wrapper.optimizer.lr`.
        found: The invalid value.
        suggestion: The word that the user most likely meant.
        notes: Additional lines of the message.
        shows_cause: Whether commands print the line that raised `__cause__`, and mention the option that shows the
            traceback. For messages that do not explain the cause.

    Attributes:
        failed_section: The config section that `key` is relative to, if a registry was building it and no key has been
            prepended since; see `building` in `footplate.error_context`.
    """

    exit_code = 2
    failed_section: object = None

    def __init__(
        self,
        message: str,
        *,
        origin: Origin | None = None,
        key: str = "",
        found: object = _Missing,
        suggestion: str | None = None,
        notes: Sequence[str] = (),
        shows_cause: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.origin = origin
        self.key = str(key)
        self.found = found
        self.suggestion = suggestion
        self.notes = tuple(notes)
        self.shows_cause = shows_cause

    @property
    def has_found(self) -> bool:
        """Whether `found` was passed, even if its value is None."""
        return self.found is not _Missing

    def prepend_key(self, prefix: str) -> None:
        """Prepends `prefix` to the key path."""
        if not self.key or not prefix:
            self.key = self.key or prefix
        elif self.key.startswith("["):
            self.key = prefix + self.key
        else:
            self.key = f"{prefix}.{self.key}"
        self.failed_section = None

    def __str__(self) -> str:
        lines = [self.message]
        place = [f"at {self.origin}"] if self.origin else []
        place += [f"key {self.key}"] if self.key else []
        if place:
            lines.append("  " + ", ".join(place))
        if self.has_found:
            value = " ".join(repr(self.found).split())
            is_long = len(value) > _MAX_VALUE_LENGTH
            lines.append(f"  found: {value[: _MAX_VALUE_LENGTH - 3]}..." if is_long else f"  found: {value}")
        if self.suggestion:
            lines.append(f"  did you mean '{self.suggestion}'?")
        lines += [f"  {note}" for note in self.notes]
        return printable("\n".join(lines[:_MAX_LINES]))

    def _render_traceback_(self) -> list[str]:
        """Returns the lines that IPython and notebooks show instead of a long traceback."""
        return [f"{type(self).__name__}: {self}", "traceback.print_last() shows the traceback"]

    def __reduce__(self) -> tuple[object, ...]:
        # By default, only the positional arguments are pickled. Workers send these exceptions to the main process.
        return (self.__class__.__new__, (self.__class__, *self.args), self.__dict__)


class ConfigError(FootplateError, ValueError):
    """Raised if a config file or a value in it is invalid."""


class ConfigSyntaxError(ConfigError):
    """Raised if a config file cannot be parsed."""


class ConfigKeyError(ConfigError, KeyError):
    """Raised if a config key or an environment variable is missing, or a key is not allowed."""


class ConfigIndexError(ConfigError, KeyError):
    """Raised if a key path goes past the end of a list. It is a KeyError, as in MMEngine."""


class ConfigAttributeError(ConfigError, AttributeError):
    """Raised if a config key that is accessed as an attribute is missing."""


class ConfigTypeError(ConfigError, TypeError):
    """Raised if a value in a config has the wrong type."""


class OverrideError(ConfigError):
    """Raised if an override from the command line cannot be applied."""


class RegistryError(FootplateError):
    """Raised if a registry cannot register, find or build an entry."""


class UnknownNameError(RegistryError, KeyError):
    """Raised if a registry has no entry with the requested name."""


class DuplicateNameError(RegistryError, KeyError):
    """Raised if two classes claim the same name in a registry."""


class BuildError(RegistryError, TypeError):
    """Raised if an argument of a class is wrong or missing, or the class has the wrong base class."""


class ArgumentError(FootplateError, ValueError, AssertionError):
    """Raised if a value is invalid for its argument or config key.

    It is an AssertionError because mmcv and MMEngine check arguments with assertions, which code may expect.
    """


class DataError(FootplateError):
    """Raised if a sample cannot be read or a dataset cannot be used."""


class StorageError(DataError):
    """Raised if remote storage cannot be reached or denies access, or if the local copy of a file cannot be written.

    This error stops the run even with `on_error='skip'`, because the samples themselves may be intact.
    """


class NonFiniteError(FootplateError):
    """Raised if a loss, a gradient or a weight is NaN or infinite."""

    exit_code = 3


class ExitError(FootplateError):
    """Raised if user code tries to exit the process during a run."""

    exit_code = 1


class RankError(FootplateError):
    """Raised if ranks cannot connect, if they disagree (for example, on the dataset), or if a rank is lost."""


class CheckpointError(FootplateError):
    """Raised if a checkpoint cannot be written, found or read."""


class CheckpointDamagedError(CheckpointError):
    """Raised if the content of a checkpoint differs from what was written."""


class MissingExtraError(FootplateError, ImportError):
    """Raised if an optional package is not installed or cannot be imported.

    Args:
        package: The package to import.
        extra: The footplate extra that installs the package.
        why: The feature that requires it.
    """

    def __init__(self, package: str, *, extra: str, why: str) -> None:
        super().__init__(
            f"{why} needs the package '{package}', which is not installed or cannot be imported",
            notes=[install_command(extra)],
        )


def install_command(extra: str) -> str:
    """Returns the command that installs an extra where footplate is installed."""
    return f"pip install 'footplate[{extra}]'"


def import_optional(module: str, *, extra: str, why: str, package: str = "") -> Any:
    """Imports and returns a module of an optional package.

    Args:
        module: The dotted name of the module.
        extra: The footplate extra that installs the package.
        why: The feature that requires the package.
        package: The name of the package; by default, the first part of `module`.

    Raises:
        MissingExtraError: The package is not installed or cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(package or module.partition(".")[0], extra=extra, why=why) from error
