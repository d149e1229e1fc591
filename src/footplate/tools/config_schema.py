"""Describes the keys of second-generation configs as a JSON schema (draft 2020-12), for completion in editors."""

import inspect
import json
import re
from contextlib import suppress
from typing import Any

from footplate.engine.plan.arguments import ARGUMENTS, OTHER_KEYS
from footplate.engine.run.runner import Runner
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
    **DEFAULT_TYPES,
    "optim_wrapper": "OptimWrapper AmpOptimWrapper",
    "train_cfg": "EpochBasedTrainLoop IterBasedTrainLoop",
}


def config_schema() -> Schema:
    """Returns the schema of a config: sections, registered classes and their arguments, with descriptions and defaults.

    The schema accepts any value, since a config may contain variables and classes of code bases; `footplate check`
    checks values.
    """
    defaults, meanings = arguments_of(Runner).defaults, describe_arguments(Runner)
    properties: Schema = {name: {"description": text} for name, text in OTHER_KEYS.items()}
    for argument in ARGUMENTS:
        if argument.in_config:
            name, text = argument.name, f"{meanings[argument.name]} Accepts {argument.description}."
            properties[name] = _argument(text, defaults[name], name)
    definitions: Schema = {}
    for registry in dict.fromkeys((*SECTION_REGISTRIES.values(), *NESTED_REGISTRIES.values())):
        definitions |= _definitions(registry)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "footplate config",
        "description": "A second-generation config. Other top-level names are variables.",
        "properties": properties,
        "$defs": definitions,
    }


def describe_arguments(entry: Any) -> dict[str, str]:
    """Maps arguments to their descriptions in the `Args:` sections of a class and its base classes."""
    descriptions: dict[str, str] = {}
    for kind in reversed(getattr(entry, "__mro__", (entry,))):
        _, _, section = inspect.cleandoc(kind.__doc__ or "").partition("\nArgs:\n")
        for argument in _ARGUMENT.finditer(re.split(r"\n(?=\S)", section)[0]):
            descriptions[argument[1]] = " ".join(argument[2].split())
    return descriptions


def _definitions(registry: Registry) -> Schema:
    """Maps each entry of a registry to the schema of its arguments, and the registry to one that selects an entry."""
    schemas: Schema = {}
    cases = []
    entries = {name: entry for name, entry in sorted(registry.module_dict.items()) if is_built_in(entry)}
    for entry_name, entry in entries.items():
        arguments, names, meanings = arguments_of(entry), class_arguments(entry, registry), describe_arguments(entry)
        properties: Schema = {name: {} for name in EXTRA_ARGUMENTS.get(registry, ())}
        for name in arguments.types if names is None else names:
            properties[name] = _argument(meanings.get(name), arguments.defaults[name], f".{name}")
        summary = (inspect.getdoc(entry) or "").partition("\n\n")[0].replace("\n", " ")
        key = f"{registry.name}.{entry_name}"
        schemas[key] = {"description": summary, "properties": properties}
        types = [entry_name, f"{registry.scope}.{entry_name}", f"mmengine.{entry_name}"]
        cases.append({"if": {"required": ["type"], "properties": {"type": {"enum": types}}}, "then": _ref(key)})
    kinds = {"description": f"The name of a {registry.noun}.", "examples": list(entries)}
    schemas[registry.name] = {"properties": {"type": kinds}, "allOf": cases}
    return schemas


def _argument(meaning: str | None, default: Any, path: str) -> Schema:
    """Returns the schema of an argument, with its meaning and default if they are known and JSON can represent them."""
    schema: Schema = {"description": meaning} if meaning else {}
    with suppress(TypeError):
        schema["default"] = json.loads(json.dumps(default))
    return schema | _value(path)


def _value(path: str, registry: Registry | None = None) -> Schema:
    """Returns the schema of the value at a key path. By default, it is an entry of `registry`, if any."""
    registry = SECTION_REGISTRIES.get(path, NESTED_REGISTRIES.get(path.rpartition(".")[2], registry))
    if path in FIXED_KEYS:
        keys = {key: _value(f"{path}.{key}", registry) for key in sorted(FIXED_KEYS[path])}
        return {"properties": keys, "additionalProperties": _value("", registry)}
    if registry is None:
        return {}
    default = [_ref(f"{registry.name}.{kind}") for kind in _DEFAULTS.get(path, "").split()]
    reference = _ref(registry.name)
    schema = {"if": {"required": ["type"]}, "then": reference, "items": reference}
    return schema | ({"else": {"anyOf": default}} if default else {})


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name.replace(' ', '%20')}"}
