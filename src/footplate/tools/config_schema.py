"""Describes the keys of second-generation configs as a JSON schema (draft 2020-12)."""

import inspect
import re
from collections.abc import Collection, Mapping
from typing import Any

from footplate.data.dataloader_config import LOADER_COUNTS
from footplate.engine.hook_list import DEFAULT_HOOKS
from footplate.engine.runner import Runner
from footplate.engine.sections import OTHER_KEYS, SECTIONS
from footplate.registry import Registry
from footplate.registry.arguments import arguments_of
from footplate.tools.config_keys import (
    DEFAULT_TYPES,
    EXTRA_ARGUMENTS,
    FIXED_KEYS,
    NESTED_REGISTRIES,
    SECTION_REGISTRIES,
    class_arguments,
)

Schema = dict[str, Any]
_JSON_TYPES: Mapping[type, str] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    type(None): "null",
    list: "array",
    tuple: "array",
    dict: "object",
    **dict.fromkeys((Collection, Mapping), "object"),
}
_LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
_ARGUMENT = re.compile(r"^    (\w+)(?: \([^)]*\))?: (.*)$")
_TEMPLATE: Schema = {"type": "string", "pattern": r"\{\{"}  # replaced by a value when the config is loaded
_TYPED: Schema = {"required": ["type"]}
# In these sections, `type` may be a class of a code base that shares its name with a footplate class.
_OF_CODE_BASES = (
    "model",
    "data_preprocessor",
    "visualizer",
    "default_hooks",
    "custom_hooks",
    *_LOADERS,
    "val_evaluator",
    "test_evaluator",
)
_OWN_SCOPES = [None, "footplate", "mmengine"]
_PLAIN = (bool, int, float, str, type(None))


def config_schema() -> Schema:
    """Returns the schema of a config.

    It contains the description and the default of every section, and the arguments of every registered class. It
    accepts:

    - any arguments for a `type` that is not registered, such as a user's class;
    - objects without a `type`, since a base may set it;
    - other top-level names, which are variables;
    - anything in the sections that may contain classes of a code base if `default_scope` selects the code base.
    """
    parameters, meanings = inspect.signature(Runner).parameters, describe_arguments(Runner)
    properties: Schema = {}
    for section in SECTIONS:
        properties[section.name] = {
            "description": f"{meanings[section.name]} Accepts {section.description}.",
            **_default(parameters[section.name].default),
            **_nullable(_section(section.name, section.accepts)),
        }
    properties |= {name: {"description": text} for name, text in OTHER_KEYS.items() if name not in properties}
    own = {name: properties[name] for name in _OF_CODE_BASES}
    properties |= {name: {"description": found["description"]} for name, found in own.items()}
    typed: dict[str, Schema] = {name: {"dataset": _TYPED, "sampler": _TYPED} for name in _LOADERS}
    typed["optim_wrapper"] = {"optimizer": _TYPED}
    registries = dict.fromkeys((*SECTION_REGISTRIES.values(), *NESTED_REGISTRIES.values()))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "footplate config",
        "description": "A second-generation config. Other top-level names are variables.",
        "type": "object",
        "properties": properties,
        "allOf": [
            {"if": {"properties": {"default_scope": {"enum": _OWN_SCOPES}}}, "then": {"properties": own}},
        ],
        **_if_present("_base_", {}, {"properties": {name: {"properties": parts} for name, parts in typed.items()}}),
        "$defs": {name: found for each in registries for name, found in _definitions(each).items()},
    }


def describe_arguments(entry: Any) -> dict[str, str]:
    """Maps arguments to their descriptions in the docstrings of a class and its base classes.

    Reads `Args:` sections in Google style.
    """
    found: dict[str, str] = {}
    for each in reversed(getattr(entry, "__mro__", (entry,))):
        lines = inspect.cleandoc(vars(each).get("__doc__") or "").splitlines()
        if "Args:" not in lines:
            continue
        name = ""
        for line in lines[lines.index("Args:") + 1 :]:
            if line and not line.startswith("    "):
                break
            start = _ARGUMENT.match(line)
            if start:
                name, found[start[1]] = start[1], start[2]
            elif name and line:
                found[name] += f" {line.strip()}"
    return found


def _section(name: str, accepts: Any) -> Schema:
    """Returns the schema of a section, without its description."""
    if name.endswith("_dataloader"):  # one dataloader, or a dict of named dataloaders
        loader = _object(FIXED_KEYS[name])
        loader["properties"] |= {key: {"minimum": least} for key, least in LOADER_COUNTS.items()}
        loaders = {"type": "object", "properties": {"_delete_": {"type": "boolean"}}, "additionalProperties": loader}
        return {"anyOf": [loader, loaders]}
    if name == "default_hooks":
        hooks: Schema = {key: _or_default(f"hook.{each['type']}", "hook") for key, each in DEFAULT_HOOKS.items()}
        hooks["_delete_"] = {"type": "boolean"}
        return {"type": "object", "properties": hooks, "additionalProperties": _nullable(_ref("hook"))}
    if name == "optim_wrapper":
        several = {"type": "object", "not": {"anyOf": [{"required": ["optimizer"]}, {"required": ["constructor"]}]}}
        wrappers = [_ref(f"optimizer wrapper.{kind}") for kind in ("OptimWrapper", "AmpOptimWrapper")]
        return {"anyOf": [_if_typed(_ref("optimizer wrapper"), {"anyOf": wrappers}), several]}
    if name == "train_cfg":
        loops = [_ref(f"loop.{kind}") for kind in ("EpochBasedTrainLoop", "IterBasedTrainLoop")]
        return _if_typed(_ref("loop"), {"anyOf": loops})
    if name in DEFAULT_TYPES:
        registry = SECTION_REGISTRIES[name].name
        return _or_default(f"{registry}.{DEFAULT_TYPES[name]}", registry)
    if name == "data_preprocessor":  # without a type, the model determines its class
        return _if_typed(_ref("model"), {"type": "object"})
    if name in SECTION_REGISTRIES:
        return {"anyOf": _one_or_many(SECTION_REGISTRIES[name].name)}
    if name == "resume_settings":
        return {"enum": ["keep", "take"]}
    if name in FIXED_KEYS:
        return {"anyOf": [_object(FIXED_KEYS[name], name), *_types(accepts, without="object")]}
    return {"anyOf": found} if (found := _types(accepts)) else {}


def _definitions(registry: Registry) -> dict[str, Schema]:
    """Maps each entry of a registry to the schema of its arguments.

    The name of the registry maps to a schema that selects an entry by `type`.
    """
    found: dict[str, Schema] = {}
    cases = []
    entries = dict(sorted(registry.module_dict.items()))
    for entry_name, entry in entries.items():
        summary = (inspect.getdoc(entry) or "").partition("\n\n")[0].replace("\n", " ")
        arguments = arguments_of(entry)
        types, defaults = (arguments.types, arguments.defaults) if arguments is not None else ({}, {})
        known, meanings = class_arguments(entry, registry), describe_arguments(entry)
        properties: Schema = {"type": {}, "_scope_": {"type": "string"}, "_delete_": {"type": "boolean"}}
        for name in known if known is not None else types:
            properties[name] = {
                **({"description": meanings[name]} if name in meanings else {}),
                **_default(defaults.get(name, inspect.Parameter.empty)),
                **_value(name, types.get(name, ())),
            }
        properties |= {name: {} for name in EXTRA_ARGUMENTS.get(registry, ()) if name not in properties}
        key = f"{registry.name}.{entry_name}"
        found[key] = {
            **({"description": summary} if summary else {}),
            "type": "object",
            "properties": properties,
            **({"additionalProperties": False} if known is not None else {}),
        }
        names = [entry_name, f"{registry.scope}.{entry_name}", f"mmengine.{entry_name}"]
        cases.append({"if": {**_TYPED, "properties": {"type": {"enum": names}}}, "then": _ref(key)})
    found[registry.name] = {
        "type": "object",
        "properties": {"type": {"description": f"The name of a {registry.noun}.", "examples": list(entries)}},
        "allOf": cases,
    }
    return found


def _value(name: str, types: tuple[type, ...] = ()) -> Schema:
    """Returns the schema of an argument's value, given the types that its class accepts."""
    if name in NESTED_REGISTRIES:
        parts = _one_or_many(NESTED_REGISTRIES[name].name)
        return {"anyOf": [*parts, {"type": "array"}, {"type": "null"}, _TEMPLATE]}
    found = [_JSON_TYPES[each] for each in types if each in _JSON_TYPES]
    if not types or len(found) < len(types):  # a config file cannot contain a type, or can express it in other ways
        return {}
    return (
        {"type": list(dict.fromkeys(found))}
        if str in types
        else {**_TEMPLATE, "type": [*dict.fromkeys(found), "string"]}
    )


def _default(value: Any) -> Schema:
    is_plain = isinstance(value, _PLAIN) or (
        isinstance(value, (list, tuple)) and all(isinstance(each, _PLAIN) for each in value)
    )
    return {"default": list(value) if isinstance(value, tuple) else value} if is_plain else {}


def _object(keys: Collection[str], path: str = "") -> Schema:
    """Returns the schema of a section with fixed keys."""
    properties: Schema = {"_delete_": {"type": "boolean"}}
    for key in sorted(keys):
        inner = f"{path}.{key}"
        properties[key] = _nullable(_object(FIXED_KEYS[inner], inner)) if inner in FIXED_KEYS else _value(key)
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _types(accepts: Any, without: str = "") -> list[Schema]:
    """Returns the schemas of the types that a section accepts, or an empty list if a function validates the section."""
    types = accepts if isinstance(accepts, tuple) else ()
    return [{"type": _JSON_TYPES[each]} for each in types if each in _JSON_TYPES and _JSON_TYPES[each] != without]


def _if_typed(typed: Schema, default: Schema) -> Schema:
    return _if_present("type", typed, default)


def _if_present(key: str, found: Schema, missing: Schema) -> Schema:
    return {"if": {"required": [key]}, "then": found, "else": missing}


def _or_default(default: str, registry: str) -> Schema:
    """Returns the schema of a registry entry whose `type` may be omitted."""
    return _nullable(_if_typed(_ref(registry), _ref(default)))


def _one_or_many(registry: str) -> list[Schema]:
    """Returns the schemas of an entry and of a list of entries.

    In a list, entries need a `type`, because a base cannot set it.
    """
    return [
        _ref(registry),
        {"type": "array", "items": {"anyOf": [{**_ref(registry), **_TYPED}, _TEMPLATE, {"type": "array"}]}},
    ]


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name.replace(' ', '%20')}"}


def _nullable(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}, _TEMPLATE]} if schema else {}
