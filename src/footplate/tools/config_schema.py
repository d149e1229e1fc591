"""Describes the keys of second-generation configs as a JSON schema (draft 2020-12), for completion in editors."""

import inspect
import re
from collections.abc import Collection
from typing import Any

from footplate.engine.checking.arguments import ARGUMENTS, OTHER_KEYS
from footplate.engine.running.hook_list import DEFAULT_HOOKS
from footplate.engine.running.runner import Runner
from footplate.registry import Registry
from footplate.registry.arguments import arguments_of
from footplate.registry.registry import is_built_in
from footplate.tools.config_keys import (
    DEFAULT_TYPES,
    EXTRA_ARGUMENTS,
    FIXED_KEYS,
    NESTED_REGISTRIES,
    SECTION_REGISTRIES,
    class_arguments,
)

Schema = dict[str, Any]
_ARGUMENT = re.compile(r"^    (\w+)(?: \([^)]*\))?: (.*(?:\n(?:     +.*)?)*)", re.MULTILINE)
# The classes of sections without `type`.
_DEFAULTS = {
    **{name: [kind] for name, kind in DEFAULT_TYPES.items()},
    "optim_wrapper": ["OptimWrapper", "AmpOptimWrapper"],
    "train_cfg": ["EpochBasedTrainLoop", "IterBasedTrainLoop"],
}


def config_schema() -> Schema:
    """Returns the schema of a config: sections, registered classes and their arguments, with descriptions and defaults.

    The schema rejects nothing, since a config may contain classes of code bases and variables; `footplate check` does.
    """
    parameters, meanings = inspect.signature(Runner).parameters, describe_arguments(Runner)
    properties: Schema = {name: {"description": text} for name, text in OTHER_KEYS.items()}
    for argument in ARGUMENTS:
        if argument.in_config:
            name, text = argument.name, f"{meanings[argument.name]} Accepts {argument.description}."
            properties[name] = {"description": text} | _default(parameters[name].default) | _section(name)
    registries = dict.fromkeys((*SECTION_REGISTRIES.values(), *NESTED_REGISTRIES.values()))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "footplate config",
        "description": "A second-generation config. Other top-level names are variables.",
        "properties": properties,
        "$defs": {name: schema for registry in registries for name, schema in _definitions(registry).items()},
    }


def describe_arguments(entry: Any) -> dict[str, str]:
    """Maps arguments to their descriptions in the `Args:` sections of a class and its base classes."""
    descriptions: dict[str, str] = {}
    for kind in reversed(getattr(entry, "__mro__", (entry,))):
        _, _, section = inspect.cleandoc(vars(kind).get("__doc__") or "").partition("\nArgs:\n")
        for argument in _ARGUMENT.finditer(re.split(r"\n(?=\S)", section)[0]):
            descriptions[argument[1]] = " ".join(argument[2].split())
    return descriptions


def _section(name: str) -> Schema:
    """Returns the schema of a section, without its description."""
    if name == "default_hooks":
        hooks = {key: _typed("hook", [hook["type"]]) for key, hook in DEFAULT_HOOKS.items()}
        return {"properties": hooks, "additionalProperties": _ref("hook")}
    if name in SECTION_REGISTRIES:
        return _typed(SECTION_REGISTRIES[name].name, _DEFAULTS.get(name, ()))
    return _object(FIXED_KEYS[name], name) if name in FIXED_KEYS else {}


def _definitions(registry: Registry) -> dict[str, Schema]:
    """Maps each entry of a registry to the schema of its arguments, and the registry to one that selects an entry."""
    schemas: dict[str, Schema] = {}
    cases = []
    entries = {name: entry for name, entry in sorted(registry.module_dict.items()) if is_built_in(entry)}
    for entry_name, entry in entries.items():
        arguments, names, meanings = arguments_of(entry), class_arguments(entry, registry), describe_arguments(entry)
        properties: Schema = {name: {} for name in EXTRA_ARGUMENTS.get(registry, ())}
        for name in arguments.types if names is None else names:
            meaning = {"description": meanings[name]} if name in meanings else {}
            properties[name] = meaning | _default(arguments.defaults[name]) | _value(name)
        summary = (inspect.getdoc(entry) or "").partition("\n\n")[0].replace("\n", " ")
        key = f"{registry.name}.{entry_name}"
        schemas[key] = {"description": summary, "properties": properties}
        types = [entry_name, f"{registry.scope}.{entry_name}", f"mmengine.{entry_name}"]
        cases.append({"if": {"required": ["type"], "properties": {"type": {"enum": types}}}, "then": _ref(key)})
    kinds = {"description": f"The name of a {registry.noun}.", "examples": list(entries)}
    schemas[registry.name] = {"properties": {"type": kinds}, "allOf": cases}
    return schemas


def _value(name: str) -> Schema:
    """Returns the schema of the value of an argument or a key: nested entries of a registry, or anything."""
    return _typed(NESTED_REGISTRIES[name].name) if name in NESTED_REGISTRIES else {}


def _default(value: Any) -> Schema:
    values = value if isinstance(value, (list, tuple)) else [value]
    is_plain = all(isinstance(item, (bool, int, float, str, type(None))) for item in values)
    return {"default": list(value) if isinstance(value, tuple) else value} if is_plain else {}


def _object(keys: Collection[str], path: str) -> Schema:
    """Returns the schema of a section with fixed keys."""
    inner = {key: f"{path}.{key}" for key in sorted(keys)}
    return {
        "properties": {
            key: _object(FIXED_KEYS[name], name) if name in FIXED_KEYS else _value(key) for key, name in inner.items()
        }
    }


def _typed(registry: str, defaults: Collection[str] = ()) -> Schema:
    """Returns the schema of an entry or a list of entries. Without `type`, it is one of the classes `defaults`."""
    default = {"else": {"anyOf": [_ref(f"{registry}.{kind}") for kind in defaults]}} if defaults else {}
    return {"if": {"required": ["type"]}, "then": _ref(registry), "items": _ref(registry), **default}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name.replace(' ', '%20')}"}
