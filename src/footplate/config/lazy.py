"""Lazily imported names of pure-Python configs."""

import importlib
from typing import Any

from footplate.errors import ConfigError, Origin


class LazyObject:
    """A dotted name that is imported when an object is built from it.

    Args:
        path: The dotted name, such as `torch.optim.SGD`.
        origin: Where the config imports it.
    """

    __slots__ = ("_origin", "_path")

    def __init__(self, path: str, origin: Origin | None = None) -> None:
        self._path = path
        self._origin = origin

    @property
    def dotted_path(self) -> str:
        """The dotted name."""
        return self._path

    def build(self) -> Any:
        """Imports the name and returns the object.

        Raises:
            ConfigError: If the module or the name does not exist.
        """
        parts = self._path.split(".")
        for count in range(len(parts), 0, -1):
            name = ".".join(parts[:count])
            try:
                found = importlib.import_module(name)
            except ModuleNotFoundError as error:
                if error.name and (name == error.name or name.startswith(f"{error.name}.")):
                    continue
                raise self._failed(f"{error}") from error
            except (ImportError, ValueError, TypeError) as error:
                raise self._failed(f"{error}") from error
            return self._attribute(found, parts[count:])
        raise self._failed(f"no module named '{parts[0]}'")

    def _attribute(self, found: Any, names: list[str]) -> Any:
        for name in names:
            try:
                found = getattr(found, name)
            except AttributeError as error:
                raise self._failed(f"{error}") from error
        return found

    def _failed(self, reason: str) -> ConfigError:
        return ConfigError(f"cannot import '{self._path}': {reason}", origin=self._origin)

    def __getattr__(self, name: str) -> "LazyObject":
        if name.startswith("__"):
            raise AttributeError(name)
        return LazyObject(f"{self._path}.{name}", self._origin)

    def __call__(self, *args: object, **kwargs: object) -> Any:
        """Raises an error, since a call would import the module while the config is read."""
        raise ConfigError(
            f"'{self._path}' is imported lazily and cannot be called in a config",
            notes=[
                "write dict(type=...), which is built when it is needed",
                "or write `_base_ = []` into the file to have its imports executed",
            ],
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LazyObject) and other._path == self._path

    def __hash__(self) -> int:
        return hash(self._path)

    def __reduce__(self) -> tuple[Any, ...]:
        return (LazyObject, (self._path, self._origin))

    def __str__(self) -> str:
        return self._path.rpartition(".")[2]

    def __repr__(self) -> str:
        return f"LazyObject({self._path!r})"
