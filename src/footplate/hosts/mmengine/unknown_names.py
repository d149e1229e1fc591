"""Describes names of `mmengine` that footplate does not provide, for error messages."""

import functools
import json
from pathlib import Path

from footplate.hosts.mmengine.names import MODULES
from footplate.messages import nearest


@functools.cache
def unprovided_names() -> dict[str, str]:
    """Maps the names that footplate does not provide to the versions of MMEngine that have them.

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
    from footplate.hosts.mmengine.packages import __version__  # imports models, which most runs do not need here

    message = f"footplate does not provide '{name}' in '{module}'"
    elsewhere = [title for title, names in MODULES.items() if name in names]
    if elsewhere:
        return f"{message}. Import it from '{min(elsewhere, key=len)}'."
    versions = unprovided_names().get(f"{module}.{name}") or unprovided_names().get(name)
    if versions:
        return f"{message} (in MMEngine {versions})."
    if not name.startswith("_"):
        message += f", and MMEngine defines no such name up to {__version__}"
    submodules = {title.removeprefix(f"{module}.") for title in MODULES if title.startswith(f"{module}.")}
    near = nearest(name, [*MODULES.get(module, ()), *submodules])
    if near:
        return f"{message}. Did you mean '{near}'?"
    near = nearest(name, [each for names in MODULES.values() for each in names])
    if near:
        home = min((title for title, names in MODULES.items() if near in names), key=len)
        return f"{message}. Did you mean '{near}' of '{home}'?"
    return f"{message}."
