"""Creates the errors of registries, which state the cause and suggest a solution."""

import inspect
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from footplate.error_context import describe_changes, explain_base, explain_missing_path, origin_at
from footplate.errors import BuildError, UnknownNameError
from footplate.extensions import extensions
from footplate.messages import describe_exception, nearest
from footplate.registry.arguments import arguments_of, describe_types, wrong_types
from footplate.registry.definitions import find_definition
from footplate.registry.scopes import default_scope, is_installed, known_scopes

if TYPE_CHECKING:
    from footplate.registry.registry import Registry

_UNEXPECTED = re.compile(r"unexpected keyword argument '(\w+)'")


def unknown_name_error(name: str, registry: "Registry", tree: Sequence["Registry"]) -> UnknownNameError:
    """Returns the error for a name that none of the registries in `tree`, which have been imported, contains.

    The error suggests a similar name, or states where the class is defined or which package is not installed.
    """
    problem = f"unknown {registry.noun} '{name}'"
    module, _, last = name.rpartition(".")
    scope = module or default_scope()
    qualified = [f"{member.scope}.{last}" for member in tree if last in member._entries]
    missing = _explain_missing_scope(scope) if scope and scope not in {member.scope for member in tree} else []
    if not qualified:
        advisers = () if missing else extensions()
        notes = [line for extension in advisers for line in extension.explain_unknown(registry.noun, last)]
        if notes := notes or _explain_definition(last, registry.name):
            return UnknownNameError(problem, notes=notes)
    names = {entry for member in tree for entry in member._entries}
    near = next((candidate for candidate in qualified if candidate != name), None) or nearest(last, sorted(names))
    notes = missing
    if qualified and not scope:
        home = str(near).rpartition(".")[0]
        notes.append(f"Or set default_scope = '{home}' to find all names that '{home}' registers.")
    if near is None:
        notes.append("Register your own classes with custom_imports = dict(imports=['my_module']).")
        if not scope:
            notes.append("If the name comes from a code base such as MMSegmentation, install it; see docs/hosts.md.")
    return UnknownNameError(problem, suggestion=near, notes=notes)


def _explain_definition(name: str, registry_name: str) -> list[str]:
    """Returns a note on how to register a class that is defined in or below the current folder, if there is one."""
    definition = find_definition(name)
    if definition is None:
        return []
    path, module = definition
    if module:
        return [f"'{name}' is defined in {path}. Add custom_imports = dict(imports=['{module}'])."]
    advice = f"Decorate it with `register_module()` of the registry '{registry_name}'."
    return [f"'{name}' is defined in {path}, but not registered. {advice}"]


def _explain_missing_scope(scope: str) -> list[str]:
    """Returns notes that explain why a scope has no registry: its package is not installed, or the scope is unknown.

    The list is empty if the package is installed.
    """
    with suppress(PackageNotFoundError):  # footplate provides the modules of some installed packages
        if is_installed(scope) or version(scope):
            return []
    if scope not in known_scopes:
        near = nearest(scope, sorted(known_scopes))
        return [f"no registry or package has the scope '{scope}'{f'; did you mean {near!r}?' if near else ''}"]
    return [
        f"'{scope}' is not installed; only the names that footplate also provides are available",
        *(line for extension in extensions() for line in extension.explain_unknown("package", scope)),
    ]


def wrong_base_error(entry: Any, registry_name: str, base: str, *, allows_functions: bool) -> BuildError:
    """Returns the error for an entry that is not a subclass of the registry's base class, `"package.module:Class"`."""
    base_class = resolve_name(base)
    notes = []
    limit = " as dotted paths" if allows_functions else ""
    if inspect.isfunction(entry) and allows_functions:
        notes = [f"Add a return annotation: def {entry.__name__}(...) -> {base.replace(':', '.')}:"]
    return BuildError(
        f"the registry '{registry_name}' accepts only subclasses of {base_class.__module__}."
        f"{base_class.__qualname__}{limit}",
        found=entry,
        notes=notes,
    )


def constructor_error(
    what: str, entry: Any, settings: Mapping[str, Any], error: Exception, source: object
) -> BuildError:
    """Returns the error to raise for a failed constructor. If possible, the error refers to the wrong argument.

    Args:
        what: The name of `entry` in the message, e.g. "hook 'EMAHook'".
        entry: The class or function.
        settings: The keyword arguments.
        error: The constructor's exception.
        source: The config, for locating the error.
    """
    key = ""
    near, inherited = None, []
    notes = describe_changes(source)
    message = f"{what} cannot be built: {describe_exception(error)}"
    if isinstance(error, FileNotFoundError) and isinstance(error.filename, str):
        path = error.filename
        key = next((name for name, value in settings.items() if value and path.endswith(str(value))), "")
        message = f"{what} cannot be built: the file '{path}' does not exist"
        notes = explain_missing_path(path)
    elif (wrong := next(wrong_types(entry, settings), None)) is not None:
        key, allowed = wrong
        message = f"{key} of {what} must be {describe_types(allowed)}"
        notes = []
    elif (unknown := _UNEXPECTED.search(str(error))) and unknown[1] in settings:  # rejected by a base class
        key = unknown[1]
        inherited = explain_base(source, key)
        near = nearest(key, () if inherited else arguments_of(entry).types)
        message = f"{what} takes no argument '{key}'"
    value = {"found": settings[key]} if key else {}
    origin = origin_at(source, "type" if inherited else key or "type")
    return BuildError(
        message, origin=origin, key=key, suggestion=near, notes=inherited or notes, shows_cause=True, **value
    )
