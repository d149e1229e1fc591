"""Finds unmet requirements of code bases. The requirements are defined in footplate's extras."""

import importlib.metadata
import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

from footplate.errors import install_command
from footplate.registry.dotted_paths import find_spec, is_user_module
from footplate_openmmlab.extension import CODE_BASES

# Code bases that an extra cannot install, because one of their own requirements cannot be installed. The extra contains
# the others.
_WITHOUT_DEPENDENCIES = {
    "mmdet3d0": "mmdet3d>=1.0.0rc0,<1.1",
    "mmpose": "mmpose>=1.0,<2",
    "mmrotate0": "mmrotate<1",
}
_BUILT_WITH_TORCH = ("mmdet3d0",)  # have no wheel, and their setup.py imports torch
_NOT_NEEDED = ("mmcv", "mmcv-full")
_OPENCV = {"opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"}
# The newest versions that the tests ran with. The oldest ones are those that pyproject.toml requires.
NEWEST_TESTED = {"torch": "2.13.0", "numpy": "2.5.5"}
_PYTHON = "Programming Language :: Python :: 3."
_EQUIVALENT = {"mmcv-lite": {"mmcv"}, "mmengine": {"mmengine-lite"}, **dict.fromkeys(_OPENCV, _OPENCV)}


def installed_version(distribution: str) -> str:
    """Returns the version of a package, or an empty string if it is not installed."""
    with suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(distribution)
    return ""


def extras() -> list[str]:
    """Returns footplate's extras, except the developer extras."""
    with suppress(importlib.metadata.PackageNotFoundError):
        names = importlib.metadata.metadata("footplate").get_all("Provides-Extra") or []
        return [name for name in names if name not in ("dev", "docs")]
    return []


def scope_of(extra: str) -> str:
    """Returns the code base that an extra installs, such as "mmdet" for "mmdet2"."""
    return extra.rstrip("02")


def extra_of(scope: str) -> str:
    """Returns the extra for the installed version of a code base, or the code base's name if it has no extra.

    If only another code base's extra accepts this version, returns that extra.
    """
    name = CODE_BASES[scope]
    found = [extra for extra in extras() if scope_of(extra) == scope]
    others = [extra for extra in extras() if extra not in found and _requires(extra, name)]
    fits = (each for each in [*found, *others] if name not in {other.name for other in unmet_requirements(each)})
    return next(fits, found[0] if found else scope)


def _requires(extra: str, name: str) -> bool:
    """Checks whether an extra of footplate itself requires a package."""
    requirements = map(Requirement, importlib.metadata.requires("footplate") or ())
    return any(each.name == name and each.marker and each.marker.evaluate({"extra": extra}) for each in requirements)


def first_generation_extra(scope: str) -> str:
    """Returns the extra for the first generation of a code base, or the code base's name if it has no such extra."""
    return next((extra for extra in extras() if scope_of(extra) == scope != extra), scope)


def without_included(names: Sequence[str]) -> list[str]:
    """Returns the extras that no other one in the list includes."""
    included = {name for other in names for name in _included(other) if name != other}
    return [name for name in names if name not in included]


def _included(extra: str) -> list[str]:
    """Returns the extras that an extra includes, directly or through others."""
    found = [extra]
    for name in found if extra in extras() else ():
        for inner in map(Requirement, importlib.metadata.requires("footplate") or ()):
            if inner.name == "footplate" and inner.marker and inner.marker.evaluate({"extra": name}):
                found += sorted(inner.extras)
    return found[1:]


def explain_untested(name: str, version: str) -> list[str]:
    """Returns a line if footplate's tests did not run with this version of "Python", "torch" or "numpy"."""
    if name == "Python":
        classifiers = importlib.metadata.metadata("footplate").get_all("Classifier") or []
        minors = sorted(int(each.removeprefix(_PYTHON)) for each in classifiers if each.startswith(_PYTHON))
        if not minors or minors[0] <= int(version.split(".")[1]) <= minors[-1]:
            return []
        return [f"Not tested: footplate is tested with Python 3.{minors[0]} to 3.{minors[-1]}."]
    newest = NEWEST_TESTED[name]
    if Version(version).release[:2] <= Version(newest).release[:2]:
        return []
    return [f"Not tested: the newest tested version is {newest}."]


def unmet_requirements(extra: str) -> list[Requirement]:
    """Returns the unmet requirements of an extra and of the code bases that it installs.

    An empty string stands for footplate without extras.
    """
    unmet: dict[str, Requirement] = {}
    root = f"footplate[{extra}]" if extra in extras() else CODE_BASES.get(extra, "footplate")
    alone = _installed_alone(extra)
    pending = [Requirement(root), *alone]
    for requirement in pending:
        version = installed_version(requirement.name)
        suits = requirement.specifier.contains if requirement.name in _OPENCV else bool
        if any(map(suits, filter(None, map(installed_version, _EQUIVALENT.get(requirement.name, ()))))):
            continue
        if not version or not requirement.specifier.contains(version, prereleases=True):
            unmet[requirement.name] = requirement
        elif requirement.name in ("footplate", *CODE_BASES.values()) and requirement not in alone:
            for inner in map(Requirement, importlib.metadata.requires(requirement.name) or ()):
                marker, inner.marker = inner.marker, None
                chosen = (marker is None or marker.evaluate({"extra": name}) for name in requirement.extras or {""})
                if inner.name not in _NOT_NEEDED and any(chosen):
                    pending.append(inner)
    return list(unmet.values())


def explain_unmet(extra: str) -> list[str]:
    """Returns a line that lists missing packages and wrong versions, and a line with the command that installs them.

    Returns an empty list if all requirements are met.
    """
    unmet = unmet_requirements(extra)
    versions = {each: installed_version(each.name) for each in unmet}
    texts = [f"{each} ({versions[each]} is installed)" if versions[each] else str(each) for each in unmet]
    alone = [_command_alone(extra) for each in unmet if each in _installed_alone(extra)]
    others = [shlex.quote(_pinned(each)) for each in unmet if each not in _installed_alone(extra)]
    # What is installed alone may be built with the others.
    commands = [*([f"pip install {' '.join(others)}"] if others else []), *alone]
    label = "Missing or unsuitable" if any(versions.values()) else "Missing"
    return [f"{label}: {', '.join(texts)}.", f"Run: {' && '.join(commands)}"] if unmet else []


def explain_opencv() -> list[str]:
    """Returns lines about packages of OpenCV with different versions, and the command that installs one version.

    They contain the same files, so that those of the last one installed remain.
    """
    versions = {name: version for name in sorted(_OPENCV) if (version := installed_version(name))}
    if len(set(versions.values())) < 2:
        return []
    newest = max(versions.values(), key=Version)
    command = " ".join(f"{name}=={newest}" for name in versions)
    texts = [f"{name} {version}" for name, version in versions.items()]
    problem = f"{' and '.join(texts)} overwrite each other's files."
    return [problem, f"Run: pip uninstall -y {' '.join(versions)} && pip install {command}"]


def _installed_alone(extra: str) -> list[Requirement]:
    """Returns the code base of an extra if it is installed without its dependencies."""
    return [Requirement(_WITHOUT_DEPENDENCIES[extra])] if extra in _WITHOUT_DEPENDENCIES else []


def _command_alone(extra: str) -> str:
    build = "--no-build-isolation " if extra in _BUILT_WITH_TORCH else ""
    return f"pip install --no-deps {build}'{_WITHOUT_DEPENDENCIES[extra]}'"


def explain_failed_import(scope: str) -> list[str]:
    """Returns the unmet requirements of an installed code base that cannot be imported; see `explain_unmet`.

    Returns an empty list for a cloned repository or an unpacked archive, whose requirements are unknown.
    """
    spec = None if is_user_module(scope) else find_spec(scope)
    with suppress(importlib.metadata.PackageNotFoundError):
        installed = importlib.metadata.distribution(CODE_BASES[scope]).locate_file(scope)
        if spec is not None and Path(str(installed)).resolve() == Path(str(spec.origin)).resolve().parent:
            return explain_unmet(extra_of(scope))
    return []


def explain_installation(name: str) -> list[str]:
    """Returns the command that installs an extra, or the commands that install a code base, one for each generation."""
    scope = scope_of(name)
    commands = [
        install_command(extra) + (f" && {_command_alone(extra)}" if extra in _WITHOUT_DEPENDENCIES else "")
        for extra in extras()
        if extra == name or scope_of(extra) == scope == name
    ]
    commands = commands or [f"{install_command('hosts')} {CODE_BASES[scope]}"]
    older = [f"For first-generation configs: {command}" for command in commands[1:]]
    return [f"Install it: {commands[0]}", *older]


def _pinned(requirement: Requirement) -> str:
    """Formats a requirement for pip. Pins torchvision so that pip does not replace the installed torch."""
    torch = installed_version("torch").split(".")
    if requirement.name == "torchvision" and torch[0] == "2":
        return f"torchvision==0.{int(torch[1]) + 15}.*"
    return str(requirement)
