"""Defines extensions, through which other packages plug into the engine.

A package registers its extension with an entry point in the group `footplate.extensions`, and its commands with entry
points in the group `footplate.commands`; see docs/public-api.md. Both are imported on first use.
"""

import os
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "footplate.extensions"
COMMANDS = "footplate.commands"


class Extension:
    """Adds configs, scopes, registry entries and checks to the engine. Subclasses override the members they need.

    Attributes:
        packages: Maps additional scopes, such as "mmdet", to their PyPI packages, or to "" if they have no package.
        repositories: Maps the names of these packages' repositories, such as "mmdetection3d", to the packages, unless
            both have the same name.
        locations: Maps registry names, such as "hook", to the modules to import for their additional entries.
        ignored_keys: Maps config keys that have no effect to advice for a warning: top-level keys, and settings of
            loops, such as `train_cfg.key`.
        advice: Additional rows for the table in `footplate.advice`.
        recipes: The folder of the recipes, which are Python configs that commands find by name.
    """

    packages: Mapping[str, str] = {}
    repositories: Mapping[str, str] = {}
    locations: Mapping[str, tuple[str, ...]] = {}
    ignored_keys: Mapping[str, str] = {}
    advice: Mapping[str, str] = {}
    recipes: str = ""

    @property
    def config_keys(self) -> frozenset[str]:
        """The top-level keys that `translate` replaces."""
        return frozenset()

    def check_config(self, cfg: Any) -> None:
        """Raises an error if footplate would ignore a key in the config that affects the results."""

    def translates(self, cfg: Any) -> bool:
        """Checks whether `translate` would change a config."""
        return False

    def translate(self, cfg: Any, *, for_run: bool = True) -> Any:
        """Translates a config so that it uses the Runner's keys.

        Args:
            cfg: The config, which is not changed.
            for_run: Whether a run uses the result, and warnings about lost settings should be logged.
        """
        return cfg

    def equivalent_key(self, cfg: Any, path: str, origin: Any = None) -> str | None:
        """Returns the key in a config that `translate` replaced with another one, or None, to restore it in errors.

        Args:
            cfg: The config, before translation.
            path: A key path in the translated config.
            origin: The file and line of the value, if known.
        """
        return None

    def import_packages(self, cfg: Any) -> None:
        """Imports the packages that a config refers to, except those in its `custom_imports`."""

    def run_script(self, path: str) -> bool:
        """Prepares the process for a script of `footplate run`. Returns True if it also ran the script."""
        return False

    def startup_messages(self) -> Sequence[str]:
        """Returns messages to log when a run starts."""
        return ()

    def check_dataset(self, dataset: Any) -> None:
        """Raises an error or logs a warning if footplate would misinterpret a dataset's samples."""

    def training_loop(self, loop_class: Any) -> Any:
        """Returns the class of a training loop, derived from `BaseTrainLoop`, for a class that is not."""
        return loop_class

    def prepare_training(self, runner: Any) -> None:
        """Checks and adapts the parts of a run before it trains. May raise an error or log warnings."""

    def draw_batch(self, runner: Any, data_batch: Any) -> Any:
        """Returns an image of a training batch as the model gets it, an RGB array ``(H, W, 3)``, or None.

        `data_batch` is collated but not preprocessed, and must not be changed.
        """
        return None

    def explain_unknown(self, noun: str, name: str) -> list[str]:
        """Returns notes to add to the error about an unregistered name or a missing package. The list may be empty.

        Args:
            noun: The kind of entry, such as "transform", or "package".
            name: The name without its scope, or the package.
        """
        return []


@cache
def _entry_points() -> "dict[str, list[EntryPoint]]":
    """Returns the entry points of each group of `footplate`, sorted by name."""
    from importlib.metadata import entry_points

    found = entry_points()  # reads the metadata of all installed packages, so it is called once
    return {group: sorted(found.select(group=group), key=lambda point: point.name) for group in (GROUP, COMMANDS)}


@cache
def extensions() -> tuple[Extension, ...]:
    """Returns the extensions of the installed packages, sorted by the names of their entry points."""
    return tuple(_load(point)() for point in _entry_points()[GROUP])


def command_modules() -> list[Any]:
    """Returns the modules that add commands, sorted by the names of their entry points.

    Each module defines `GROUP`, the title of the commands in the help, and `add_commands(subparsers)`.
    """
    return [_load(point) for point in _entry_points()[COMMANDS]]


def _load(point: "EntryPoint") -> Any:
    try:
        return point.load()
    except Exception as error:
        package = point.dist.name if point.dist is not None else point.name
        raise ImportError(f"the plug-in '{point.value}' of the package '{package}' cannot be imported") from error


@cache
def recipe_folders() -> tuple[str, ...]:
    """Returns the folders of all recipes, with a trailing separator."""
    return tuple(os.path.join(extension.recipes, "") for extension in extensions() if extension.recipes)


def is_translated(cfg: Any) -> bool:
    """Checks whether an extension would translate a config."""
    return any(extension.translates(cfg) for extension in extensions())


def translate(cfg: Any, *, for_run: bool = True) -> Any:
    """Translates a config so that it uses the Runner's keys. Returns other configs unchanged; see `Extension`."""
    for extension in extensions():
        if extension.config_keys.intersection(cfg):
            cfg = extension.translate(cfg, for_run=for_run)
    return cfg


def known_packages() -> dict[str, str]:
    """Returns the PyPI package names of all extensions, keyed by scope. Scopes without a package map to ""."""
    return {scope: package for extension in extensions() for scope, package in extension.packages.items()}


def package_of_repository(name: str) -> str | None:
    """Returns the package in a repository with a name, such as "mmdet3d" for "mmdetection3d", or None."""
    package = next((found for extension in extensions() if (found := extension.repositories.get(name))), name)
    return package if package in known_packages() else None


def cloned_folders() -> list[str]:
    """Returns the folders in the current folder that are copies of a known package's repository.

    Packages without a name on PyPI do not count: the extensions themselves provide what runs use from them.
    """
    known = known_packages()
    names = [*known, *(name for extension in extensions() for name in extension.repositories)]
    packages = {name: str(package_of_repository(name)) for name in names}
    return [
        os.path.abspath(name)
        for name, package in packages.items()
        if known.get(package) and os.path.isfile(os.path.join(name, package, "__init__.py"))
    ]
