"""Finds the package versions that a code base accepts, and makes the packages report an accepted version."""

import ast
import importlib
import logging
import re
import sys
from collections.abc import Iterator
from typing import Any

from packaging.version import Version

from footplate.extensions import known_packages
from footplate_openmmlab.extension import RELAXED

_logger = logging.getLogger("footplate.openmmlab")
# If a code base rejects the installed version, it sees the newest of these versions that it accepts.
_RELEASES = {
    "mmcv": "2.1.0 2.0.1 2.0.0 1.7.2 1.7.0 1.6.2 1.6.0 1.5.3 1.5.0 1.4.8 1.4.0 1.3.18 1.3.17 1.3.9 1.3.3 1.2.7 1.1.5",
    "mmengine": "0.10.7 0.9.1 0.8.5 0.7.4 0.6.0 0.5.0 0.4.0 0.3.2 0.2.0",
}
_LIMIT = re.compile(
    r"^(mm[a-z0-9]+)_(min|max)(?:imum)?(?:_version)?\s*=\s*[\"']([^\"']+)", re.IGNORECASE | re.MULTILINE
)
_COMPARISON = re.compile(r"(mm[a-z0-9]+)\.__version__\)? ([<>])=? (?:[\w.]+\()?'([^']+)'", re.IGNORECASE)
_WITHOUT_RUNNER = Version("2.0.0rc0"), Version("2.0.0")
_originals: dict[str, Any] = {}
_ranges: dict[str, list[tuple[str, str]]] = {}  # maps packages to the version ranges of the code bases imported so far


def accepted_ranges(source: str) -> dict[str, tuple[str, str]]:
    """Returns the version ranges that a code base accepts, as a (minimum, maximum) pair for each package.

    Packages without a maximum are omitted. The minimum defaults to "0".

    Args:
        source: The source of the code base's `__init__.py`, with assignments such as `mmcv_maximum_version = '1.8.0'`,
            or checks such as `assert digit_version(mmcv.__version__) <= digit_version('1.8.0')`.
    """
    limits: dict[str, dict[str, str]] = {}
    for name, end, version in [*_LIMIT.findall(source), *_checked_limits(source)]:
        limits.setdefault(name.lower(), {})[end.lower()] = version
    known = known_packages()
    return {
        name: (each.get("min", "0"), each["max"]) for name, each in limits.items() if "max" in each and name in known
    }


def _checked_limits(source: str) -> Iterator[tuple[str, str, str]]:
    """Yields the package, "min" or "max", and the version from each version check.

    A version check is an assertion or an `if` that raises. Yields nothing if the source has a syntax error.
    """
    if ".__version__" not in source:
        return
    try:
        tree = ast.parse(source)
    except SyntaxError:  # Python reports it when it imports the file
        return
    for node in ast.walk(tree):
        match node:
            case ast.Assert(test=test):
                sign_of_max = "<"
            case ast.If(test=test, body=[ast.Raise(), *_]):
                sign_of_max = ">"
            case _:
                continue
        for name, sign, version in _COMPARISON.findall(ast.unparse(test)):
            yield name, "max" if sign == sign_of_max else "min", version


def is_for_mmcv_1(source: str) -> bool:
    """Checks whether a code base was written for mmcv 1.x, based on the source of its `__init__.py`."""
    accepted = accepted_ranges(source).get("mmcv")
    if accepted is None:
        return False
    lowest, highest = map(Version, accepted)
    return lowest < _WITHOUT_RUNNER[0] and highest <= _WITHOUT_RUNNER[1]


def show_accepted_versions(source: str) -> None:
    """Sets `__version__` in mmcv, MMEngine and other code bases to versions that a code base accepts.

    Prefers versions that previously imported code bases also accept, because a code base may import another one before
    it checks versions.

    Args:
        source: The source of the code base's `__init__.py`.
    """
    # Other code bases come first, because importing them changes the versions of mmcv and MMEngine.
    for package, accepted in sorted(accepted_ranges(source).items(), key=lambda each: each[0] in _RELEASES):
        try:
            module = importlib.import_module(package)
        except ImportError:  # the code base raises the error itself
            continue
        ranges = _ranges.setdefault(package, [])
        ranges.append(accepted)
        lowest = Version(accepted[0])
        original = _originals.setdefault(package, getattr(module, "__version__", None))
        shown = [*([original] if original else []), *_RELEASES.get(package, "").split(), accepted[0]]
        # For some code bases, the maximum version is inclusive; for others, it is exclusive.
        fits = [each for each in shown if _is_within(each, accepted)] or [accepted[1]]
        fits.sort(key=lambda each: not all(_is_within(each, limits) for limits in ranges))
        if original and Version(original) < lowest:  # too old, so the code base should raise its error
            fits = [original]
        elif original and fits[0] != original:
            note = f"{package} {original} is installed, but a code base accepts versions up to {accepted[1]}."
            _logger.info("%s footplate reports %s to it.", note, fits[0])
            if package not in _RELEASES:  # footplate itself provides mmcv's and MMEngine's runtime
                RELAXED[f"(?#{package})"] = note  # a pattern that matches any error
        for title in {package, f"{package}.version"} & sys.modules.keys():
            vars(sys.modules[title]).update(__version__=fits[0], version_info=Version(fits[0]).release)


def _is_within(version: str, limits: tuple[str, str]) -> bool:
    return Version(limits[0]) <= Version(version) < Version(limits[1])
