"""Helpers from `mmengine.utils` for versions, types, function calls and packages."""

import copy
import functools
import importlib
import importlib.metadata
import importlib.util
import shutil
import subprocess
import warnings
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from itertools import chain, islice, repeat
from pkgutil import resolve_name
from typing import Any, TypeVar

from packaging.version import Version

from footplate.errors import ConfigError
from footplate.openmmlab.requirements import installed_version

_Function = TypeVar("_Function", bound=Callable[..., Any])


def digit_version(version_str: str, length: int = 4) -> tuple[int, ...]:
    """Converts a version to a tuple of integers, so that versions can be compared.

    Args:
        version_str: A version, such as "1.2.0rc1". A local part, such as "+cu118", is ignored.
        length: The number of release components to return.

    Returns:
        The release components, followed by two integers. The first is -4 for a development release, -3 for alpha, -2
        for beta, -1 for a release candidate, 0 for a release and 1 for a post-release. The second is the number after
        this label, such as 1 in "rc1", or 0.

    Raises:
        ValueError: `version_str` is not a version.

    Example:
        >>> digit_version("2.1.0"), digit_version("2.1.0rc2") < digit_version("2.1.0")
        ((2, 1, 0, 0, 0, 0), True)
    """
    version = Version(version_str)
    if version.pre is not None:
        label = {"a": -3, "b": -2, "rc": -1}[version.pre[0]], version.pre[1]
    elif version.dev is not None:
        label = -4, version.dev
    else:
        label = (0, 0) if version.post is None else (1, version.post)
    return (*[*version.release, *[0] * length][:length], *label)


def parse_version_info(version_str: str, length: int = 4) -> tuple[int | str, ...]:
    """Converts a version such as "1.2.0rc1" to a tuple such as `(1, 2, 0, 0, "rc", 1)`; a release ends with `0, 0`."""
    *release, rank, number = digit_version(version_str, length)
    names = {-4: "dev", -3: "a", -2: "b", -1: "rc", 1: "post"}
    return (*release, names[rank], number) if rank else (*release, 0, 0)


# The newest MMEngine version that footplate supports. Code bases check whether they accept this version.
__version__ = "0.10.7"
version_info = parse_version_info(__version__)


def to_ntuple(count: int) -> Callable[[Any], tuple[Any, ...]]:
    """Returns a function that converts iterables to tuples, and repeats strings and other values `count` times."""

    def convert(x: Any) -> tuple[Any, ...]:
        return tuple(x) if isinstance(x, Iterable) and not isinstance(x, str) else tuple(repeat(x, count))

    return convert


to_1tuple, to_2tuple, to_3tuple, to_4tuple = map(to_ntuple, range(1, 5))


def is_seq_of(seq: Any, expected_type: Any, seq_type: type | None = None) -> bool:
    """Checks whether `seq` is a sequence (or a `seq_type`) whose items are all of type `expected_type`."""
    container: type[Any] = seq_type or Sequence
    return isinstance(seq, container) and all(isinstance(item, expected_type) for item in seq)


is_list_of = functools.partial(is_seq_of, seq_type=list)
is_tuple_of = functools.partial(is_seq_of, seq_type=tuple)


def is_str(value: Any) -> bool:
    """Checks whether `value` is a string."""
    return isinstance(value, str)


def slice_list(in_list: list[Any], lens: int | list[int]) -> list[list[Any]]:
    """Splits a list into sublists of the given length or lengths.

    Raises:
        ValueError: The lengths do not add up to the list's length.
    """
    lengths = [lens] * (len(in_list) // lens) if isinstance(lens, int) else lens
    if sum(lengths) != len(in_list):
        raise ValueError(f"A list of length {len(in_list)} cannot be split with lens={lens}.")
    items = iter(in_list)
    return [list(islice(items, length)) for length in lengths]


def concat_list(in_list: list[list[Any]]) -> list[Any]:
    """Concatenates a list of lists."""
    return list(chain(*in_list))


def apply_to(data: Any, expr: Callable[[Any], bool], apply_func: Callable[[Any], Any]) -> Any:
    """Returns a copy of nested data in which `apply_func` was applied to the items for which `expr` returns True."""
    if expr(data):
        return apply_func(data)
    if isinstance(data, MutableMapping):
        changed = copy.copy(data)  # keeps the type, for example ConfigDict with its attribute access
        changed.update({key: apply_to(value, expr, apply_func) for key, value in data.items()})
        return changed
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return type(data)(*(apply_to(value, expr, apply_func) for value in data))
    if isinstance(data, list | tuple):
        return type(data)(apply_to(value, expr, apply_func) for value in data)
    return data


def import_modules_from_strings(imports: str | Sequence[str] | None, allow_failed_imports: bool = False) -> Any:
    """Imports one or more modules and returns them.

    Returns a module if `imports` is a string, None if it is empty or None, and otherwise a list of modules.

    Args:
        imports: A module name, a list of module names, or None.
        allow_failed_imports: Whether to warn and return None for a module that cannot be imported, instead of raising
            an error.

    Raises:
        ImportError: A module cannot be imported, and `allow_failed_imports` is not set.
    """
    modules: list[Any] = []
    for name in [imports] if isinstance(imports, str) else imports or ():
        try:
            modules.append(importlib.import_module(name))
        except ImportError as error:
            if not allow_failed_imports:
                raise
            warnings.warn(str(error), UserWarning, stacklevel=2)
            modules.append(None)
    return modules[0] if isinstance(imports, str) else modules or None


def get_object_from_string(obj_name: str) -> Any:
    """Returns the object at a dotted path, or None if it does not exist."""
    try:
        return resolve_name(obj_name)
    except (ImportError, AttributeError, ValueError):
        return None


def requires_executable(prerequisites: str | Sequence[str]) -> Callable[[_Function], _Function]:
    """Returns a decorator that makes a function raise a RuntimeError if a program is not installed."""
    programs = [prerequisites] if isinstance(prerequisites, str) else prerequisites

    def decorate(function: _Function) -> _Function:
        @functools.wraps(function)
        def checked(*args: Any, **kwargs: Any) -> Any:
            if missing := [program for program in programs if shutil.which(program) is None]:
                raise RuntimeError(f"'{', '.join(missing)}' must be installed to use '{function.__name__}'.")
            return function(*args, **kwargs)

        return checked  # type: ignore[return-value]

    return decorate


def deprecated_api_warning(
    name_dict: Mapping[str, str], cls_name: str | None = None
) -> Callable[[_Function], _Function]:
    """Returns a decorator that renames deprecated keyword arguments and warns about them.

    The decorated function raises an AssertionError if both the old and the new name of an argument are passed.

    Args:
        name_dict: Maps old names to new names.
        cls_name: The class name to show in the warning, if the function is a method.
    """

    def decorate(function: _Function) -> _Function:
        @functools.wraps(function)
        def renamed(*args: Any, **kwargs: Any) -> Any:
            where = f"{cls_name}.{function.__name__}" if cls_name else function.__name__
            for old, new in name_dict.items():
                if old not in kwargs:
                    continue
                message = f"The argument '{old}' of '{where}' is deprecated. Use '{new}'."
                warnings.warn(message, DeprecationWarning, stacklevel=2)
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return renamed  # type: ignore[return-value]

    return decorate


def is_method_overridden(method: str, base_class: type, derived_class: type | object) -> bool:
    """Checks whether a class, or an object's class, overrides a method of a base class."""
    derived = derived_class if isinstance(derived_class, type) else type(derived_class)
    return bool(getattr(derived, method) != getattr(base_class, method))


def has_method(obj: object, method: str) -> bool:
    """Checks whether an object has a method with this name."""
    return callable(getattr(obj, method, None))


def is_installed(package: str) -> bool:
    """Checks whether a package is installed. `package` is its PyPI name or its import name."""
    return bool(installed_version(package)) or importlib.util.find_spec(package.partition(".")[0]) is not None


def get_installed_path(package: str) -> str:
    """Returns the folder of an installed package. `package` is its PyPI name or its import name.

    Raises:
        ConfigError: The package is not installed or has no folder.
    """
    spec = importlib.util.find_spec(package.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(f"No folder of the package '{package}' was found.")
    return list(spec.submodule_search_locations)[0]


def get_git_hash(fallback: str = "unknown", digits: int | None = None) -> str:
    """Returns the commit hash of the git repository in the current folder, or `fallback` outside a repository.

    Args:
        fallback: The string to return outside a repository or if git is not installed.
        digits: The number of digits to return; all by default.
    """
    try:
        answer = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return fallback
    return answer.stdout.strip()[:digits]
