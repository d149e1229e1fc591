"""Registries for the models of installed packages. Configs refer to the models by names such as `timm.resnet18`."""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from pkgutil import resolve_name
from typing import Any

from footplate.errors import BuildError, MissingExtraError, UnknownNameError
from footplate.messages import nearest
from footplate.registry.dotted_paths import top_level_spec
from footplate.registry.registry import Registry


class ModelSource(ABC):
    """Lists and builds the models of a package. A config can only refer to listed models.

    Args:
        package: The imported package.
    """

    def __init__(self, package: Any) -> None:
        self.package = package

    @abstractmethod
    def names(self) -> list[str]:
        """Returns the names of the models."""

    @abstractmethod
    def build(self, name: str, **settings: Any) -> Any:
        """Builds a model."""

    @abstractmethod
    def help(self, name: str) -> str:
        """Returns a one-sentence description of a model, or "" if there is none."""

    def has(self, name: str) -> bool:
        """Checks whether there is a model with this name."""
        return name in self.names()


class PackageModels(Registry):
    """Looks up the models of a package by name, without registering them. Imports the package on first lookup.

    Args:
        package: The name of the package, which is the scope of the registry.
        parent: The registry of models.
        source: `"module:Class"` of the ModelSource.
        extra: The extra of footplate that installs the package.
    """

    def __init__(self, package: str, parent: Registry, source: str, extra: str) -> None:
        super().__init__(f"model of {package}", parent=parent, scope=package, noun="model")
        self._source_path, self._extra = source, extra
        self._source: ModelSource | None = None

    @property
    def is_installed(self) -> bool:
        """Whether the package is installed."""
        return top_level_spec(self.scope) is not None

    @property
    def source(self) -> ModelSource:
        """The models of the package.

        Raises:
            MissingExtraError: The package is not installed.
            BuildError: The package cannot be imported.
        """
        if self._source is None:
            if not self.is_installed:
                raise MissingExtraError(self.scope, extra=self._extra, why=f"a model of {self.scope}")
            try:
                package = importlib.import_module(self.scope)
            except Exception as error:  # torchvision raises a RuntimeError if it was built for another torch
                raise BuildError(
                    f"the package '{self.scope}' cannot be imported: {type(error).__name__}: {error}", hides_cause=True
                ) from error
            self._source = resolve_name(self._source_path)(package)
        return self._source

    def _find_upwards(self, name: str) -> Callable[..., Any] | None:
        if self.source.has(name):

            def build(**settings: Any) -> Any:
                return self.source.build(name, **settings)

            build.__name__ = f"{self.scope}.{name}"
            return build
        if "." in name:  # a dotted path, which only a Python config may use
            return None
        near = nearest(name, self.source.names())
        raise UnknownNameError(
            f"{self.scope} has no model '{name}'",
            suggestion=near and f"{self.scope}.{near}",
            notes=() if near else [f"List its models with `footplate models {self.scope}`."],
        )
