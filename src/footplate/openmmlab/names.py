"""The import names of OpenMMLab packages, and their counterparts in footplate."""

import functools
import json
from configparser import ConfigParser
from pathlib import Path

from footplate.messages import nearest
from footplate.openmmlab.mmengine.utils import __version__

Names = dict[str, str]
"""Maps names to "module:attribute"."""

DISTRIBUTIONS = {
    "mmcv": ("mmcv", "mmcv-full", "mmcv-lite"),
    "mmengine": ("mmengine", "mmengine-lite"),
    "mmseg": ("mmsegmentation",),
    "mmdet": ("mmdet",),
    "mmselfsup": ("mmselfsup",),
}
"""Maps packages to the names of their distributions on PyPI."""


def _read_names() -> dict[str, Names]:
    parser = ConfigParser(delimiters=("=",), interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]  # keys are case-sensitive
    parser.read_string(Path(__file__).with_name("names.ini").read_text(encoding="utf-8"))
    found: dict[str, Names] = {}
    for title, section in parser.items():
        submodules = section.pop("submodules", "").split()
        names = {name: home for other in section.pop("include", "").split() for name, home in found[other].items()}
        for home, entries in section.items():
            pairs = (entry.partition(":") for entry in entries.split())
            names.update((name, f"{home}:{attribute or name}") for name, _, attribute in pairs)
        found.update(dict.fromkeys([title, *(f"{title}.{submodule}" for submodule in submodules)], names))
    del found[parser.default_section]
    return found


NAMES = _read_names()
"""Maps modules to their names. A name that an installed mmcv 2 or code base has is taken from there."""
MMENGINE = {title: names for title, names in NAMES.items() if title.partition(".")[0] == "mmengine"}


def names_of(module: str) -> Names | None:
    """Returns the names that footplate provides in a module, or None if it does not provide the module.

    Any module named `registry` or `builder` contains all registries, because files that users add to a code base
    import them with relative imports.
    """
    if module in NAMES:
        return NAMES[module]
    package, _, rest = module.partition(".")
    if package not in DISTRIBUTIONS:
        return None
    if rest.rpartition(".")[2] in ("registry", "builder"):
        return {**NAMES["mmseg.registry"], **NAMES["mmcv.runner.optimizer"]}
    return {} if any(known.startswith(f"{module}.") for known in NAMES) else None


@functools.cache
def unprovided_names() -> dict[str, str]:
    """Maps the names of `mmengine` that footplate does not provide to the versions of MMEngine that have them.

    Modules are included with their full names. `scripts/mmengine_names.py` generates the data file.
    """
    table = json.loads(Path(__file__).with_name("unknown_names.json").read_text(encoding="utf-8"))
    return {name: versions for versions, names in table.items() for name in names.split()}


def describe_unknown_name(module: str, name: str) -> str:
    """Returns an error message about a name that footplate does not provide in a module of `mmengine`.

    The message mentions the module that provides the name, the versions of MMEngine that define it, or a similar name.

    Args:
        module: The module, such as `mmengine.hooks`.
        name: The unknown name, or the unknown submodule.
    """
    message = f"footplate does not provide '{name}' in '{module}'"
    elsewhere = [title for title, names in MMENGINE.items() if name in names]
    if elsewhere:
        return f"{message}. Import it from '{min(elsewhere, key=len)}'."
    versions = unprovided_names().get(f"{module}.{name}") or unprovided_names().get(name)
    if versions:
        return f"{message} (in MMEngine {versions})."
    if not name.startswith("_"):
        message += f", and MMEngine defines no such name up to {__version__}"
    submodules = {title.removeprefix(f"{module}.") for title in MMENGINE if title.startswith(f"{module}.")}
    near = nearest(name, [*MMENGINE.get(module, ()), *submodules])
    if near:
        return f"{message}. Did you mean '{near}'?"
    near = nearest(name, [each for names in MMENGINE.values() for each in names])
    if near:
        home = min((title for title, names in MMENGINE.items() if near in names), key=len)
        return f"{message}. Did you mean '{near}' of '{home}'?"
    return f"{message}."
