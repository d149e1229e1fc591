"""Maps the names in OpenMMLab's modules to their counterparts in footplate."""

from configparser import ConfigParser
from pathlib import Path

from footplate.messages import nearest

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


_MARK = "patch "


def _read_names() -> tuple[dict[str, Names], dict[str, list[str]]]:
    parser = ConfigParser(delimiters=("=",), interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]  # keys are case-sensitive
    parser.read_string(Path(__file__).with_name("names.ini").read_text(encoding="utf-8"))
    found: dict[str, Names] = {}
    fallbacks: dict[str, list[str]] = {}
    for title, section in parser.items():
        modules = [title, *(f"{title}.{submodule}" for submodule in section.pop("submodules", "").split())]
        names, homes = Names(), list[str]()
        for other in section.pop("include", "").split():
            names.update(found.get(other, {}))
            homes += fallbacks[other] if other in found else [other]
        for home, entries in section.items():
            pairs = (entry.partition(":") for entry in entries.split())
            names.update((name, f"{home}:{attribute or name}") for name, _, attribute in pairs)
        found.update(dict.fromkeys(modules, names))
        fallbacks.update(dict.fromkeys(modules, homes))
    del found[parser.default_section]
    return found, fallbacks


NAMES, FALLBACKS = _read_names()
PATCHED_NAMES = {title.removeprefix(_MARK): NAMES.pop(title) for title in [*NAMES] if title.startswith(_MARK)}
"""Maps modules of the installed MMEngine and mmcv to the names that footplate replaces in them.

`NAMES` maps each other module to the names that footplate provides in it. These names do not replace names that already
exist in an installed mmcv 2 or code base. `FALLBACKS` maps it to the modules of the installed MMEngine that provide
further names.
"""


def names_of(module: str) -> Names | None:
    """Returns the names that footplate provides in a module, or None if footplate does not provide the module.

    Any module named `registry` or `builder` contains all registries, so that relative imports work in files that users
    add to a code base.
    """
    if module in NAMES:
        return NAMES[module]
    package, _, rest = module.partition(".")
    if package not in DISTRIBUTIONS:
        return None
    if rest.rpartition(".")[2] in ("registry", "builder"):
        return {**NAMES["mmseg.registry"], **NAMES["mmcv.runner.optimizer"]}
    return {} if any(known.startswith(f"{module}.") for known in NAMES) else None


def describe_unknown_name(module: str, name: str) -> str:
    """Returns the error message for a name that footplate does not provide, with a similar name if there is one.

    Args:
        module: The module that the name was imported from, such as `mmengine.hooks`.
        name: The unknown name or submodule.
    """
    message = f"footplate does not provide '{name}' in '{module}'."
    start = f"{module}."
    submodules = (title.removeprefix(start) for title in NAMES if title.startswith(start))
    near = nearest(name, [*NAMES.get(module, ()), *submodules])
    return f"{message} Did you mean '{near}'?" if near else message
