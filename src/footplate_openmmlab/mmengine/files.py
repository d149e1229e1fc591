"""Replacements for names in modules of the installed MMEngine that would execute code from files, or need old packages.

`names.ini` lists the modules in which they take effect.
"""

import pickle
from importlib.util import find_spec
from typing import Any

from footplate.config import Config, parse_recorded
from footplate.data.annotations import read_plain_pickle
from footplate_openmmlab.mmengine.registry import AcceptsBase
from footplate_openmmlab.requirements import installed_version


class PlainPickle:
    """The functions of `pickle` that MMEngine calls. `load` reads plain data only; see `read_plain_pickle`."""

    dump, dumps = staticmethod(pickle.dump), staticmethod(pickle.dumps)

    @staticmethod
    def load(file: Any, **options: Any) -> Any:
        """Returns the data in an open pickle file.

        Raises:
            DataError: The file refers to a class that is not one of the permitted data types.
        """
        return read_plain_pickle(file.read(), **options)


class RecordedConfig(Config, metaclass=AcceptsBase):
    """A config class whose `fromstring` parses the config of a checkpoint without executing it."""

    @staticmethod
    def fromstring(cfg_str: str, file_format: str) -> Config:
        """Parses the text of a recorded config; see `parse_recorded`."""
        return parse_recorded(cfg_str, f"<string>{file_format}")


def ignore_deprecation(*args: Any, **kwargs: Any) -> None:
    """Ignores a deprecation message about `FileClient`. First-generation code has no other way to read files."""


def is_installed(package: str) -> bool:
    """Checks whether a package is installed. `package` is its PyPI name or its import name."""
    return bool(installed_version(package)) or find_spec(package.partition(".")[0]) is not None


def get_installed_path(package: str) -> str:
    """Returns the folder of an installed package. `package` is its PyPI name or its import name.

    Raises:
        ModuleNotFoundError: The package is not installed or has no folder.
    """
    spec = find_spec(package.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"No folder of the package '{package}' was found.")
    return spec.submodule_search_locations[0]
