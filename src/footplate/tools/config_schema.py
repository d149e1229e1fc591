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
_ARGUMENT = re.compile(r"^    (\w+)(?: \([^)]*\))?: (.*(?:\n(?:     +.*)?)*)", re.MULTILINE)
_TEMPLATE: Schema = {"type": "string", "pattern": r"\{\{"}  # replaced by a value when the config is loaded
_TYPED: Schema = {"required": ["type"]}
_BOOLEAN: Schema = {"type": "boolean"}
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
    descriptions = {name: {"description": text} for name, text in OTHER_KEYS.items()}
    properties: Schema = dict(descriptions)
    for section in SECTIONS:
        name = section.name
        descriptions[name] = {"description": f"{meanings[name]} Accepts {section.description}."}
        schema = _nullable(_section(name, section.accepts))
        properties[name] = {**descriptions[name], **_default(parameters[name].default), **schema}
    is_own = {"properties": {"default_scope": {"enum": _OWN_SCOPES}}}
    registries = dict.fromkeys((*SECTION_REGISTRIES.values(), *NESTED_REGISTRIES.values()))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "footplate config",
        "description": "A second-generation config. Other top-level names are variables.",
        "type": "object",
        "properties": properties | {name: descriptions[name] for name in _OF_CODE_BASES},
        "allOf": [{"if": is_own, "then": {"properties": {name: properties[name] for name in _OF_CODE_BASES}}}],
        "$defs": {name: schema for registry in registries for name, schema in _definitions(registry).items()},
    }


def describe_arguments(entry: Any) -> dict[str, str]:
    """Maps arguments to their descriptions in the docstrings of a class and its base classes.

    Reads `Args:` sections in Google style.
    """
    descriptions: dict[str, str] = {}
    for kind in reversed(getattr(entry, "__mro__", (entry,))):
        _, _, section = inspect.cleandoc(vars(kind).get("__doc__") or "").partition("\nArgs:\n")
        for argument in _ARGUMENT.finditer(re.split(r"\n(?=\S)", section)[0]):
            descriptions[argument[1]] = " ".join(argument[2].split())
    return descriptions


def _section(name: str, accepts: Any) -> Schema:
    """Returns the schema of a section, without its description."""
    if name.endswith("_dataloader"):  # one dataloader, or a dict of named dataloaders
        loader = _object(FIXED_KEYS[name])
        loader["properties"] |= {key: {"minimum": minimum} for key, minimum in LOADER_COUNTS.items()}
        named = {"type": "object", "properties": {"_delete_": _BOOLEAN}, "additionalProperties": loader}
        return {"anyOf": [loader, named]}
    if name == "default_hooks":
        hooks: Schema = {
            key: _nullable(_if_typed(_ref("hook"), _ref(f"hook.{hook['type']}"))) for key, hook in DEFAULT_HOOKS.items()
        }
        other = _nullable(_ref("hook"))
        return {"type": "object", "properties": {"_delete_": _BOOLEAN, **hooks}, "additionalProperties": other}
    if name == "optim_wrapper":
        several = {"type": "object", "not": {"anyOf": [{"required": ["optimizer"]}, {"required": ["constructor"]}]}}
        wrappers = [_ref(f"optimizer wrapper.{kind}") for kind in ("OptimWrapper", "AmpOptimWrapper")]
        return {"anyOf": [_if_typed(_ref("optimizer wrapper"), {"anyOf": wrappers}), several]}
    if name == "train_cfg":
        loops = [_ref(f"loop.{kind}") for kind in ("EpochBasedTrainLoop", "IterBasedTrainLoop")]
        return _if_typed(_ref("loop"), {"anyOf": loops})
    if name == "data_preprocessor":  # without a type, the model determines its class
        return _if_typed(_ref("model"), {"type": "object"})
    if name in SECTION_REGISTRIES:
        registry = SECTION_REGISTRIES[name].name
        if name in DEFAULT_TYPES:
            return _if_typed(_ref(registry), _ref(f"{registry}.{DEFAULT_TYPES[name]}"))
        return {"anyOf": _one_or_many(registry)}
    if name == "resume_settings":
        return {"enum": ["keep", "take"]}
    schemas = _types(accepts)
    if name in FIXED_KEYS:
        schemas = [_object(FIXED_KEYS[name], name), *(schema for schema in schemas if schema["type"] != "object")]
    return {"anyOf": schemas} if schemas else {}


def _definitions(registry: Registry) -> dict[str, Schema]:
    """Maps each entry of a registry to the schema of its arguments.

    The name of the registry maps to a schema that selects an entry by `type`.
    """
    schemas: dict[str, Schema] = {}
    cases = []
    entries = dict(sorted(registry.module_dict.items()))
    for entry_name, entry in entries.items():
        summary = (inspect.getdoc(entry) or "").partition("\n\n")[0].replace("\n", " ")
        arguments = arguments_of(entry)
        types, defaults = (arguments.types, arguments.defaults) if arguments is not None else ({}, {})
        names = class_arguments(entry, registry)
        meanings = {name: {"description": text} for name, text in describe_arguments(entry).items()}
        properties: Schema = {name: {} for name in ("type", *EXTRA_ARGUMENTS.get(registry, ()))}
        properties |= {"_scope_": {"type": "string"}, "_delete_": _BOOLEAN}
        for name in types if names is None else names:
            default = _default(defaults.get(name, inspect.Parameter.empty))
            properties[name] = {**meanings.get(name, {}), **default, **_value(name, types.get(name, ()))}
        key = f"{registry.name}.{entry_name}"
        schemas[key] = {"description": summary, "type": "object", "properties": properties}
        if names is not None:
            schemas[key]["additionalProperties"] = False
        scoped = [entry_name, f"{registry.scope}.{entry_name}", f"mmengine.{entry_name}"]
        cases.append({"if": {**_TYPED, "properties": {"type": {"enum": scoped}}}, "then": _ref(key)})
    kinds = {"description": f"The name of a {registry.noun}.", "examples": list(entries)}
    schemas[registry.name] = {"type": "object", "properties": {"type": kinds}, "allOf": cases}
    return schemas


def _value(name: str, types: tuple[type, ...] = ()) -> Schema:
    """Returns the schema of an argument's value, given the types that its class accepts."""
    if name in NESTED_REGISTRIES:
        return {"anyOf": [*_one_or_many(NESTED_REGISTRIES[name].name), {"type": "array"}, {"type": "null"}, _TEMPLATE]}
    if not types or not all(kind in _JSON_TYPES for kind in types):  # a config file can express them in other ways
        return {}
    names = list(dict.fromkeys(_JSON_TYPES[kind] for kind in types))
    return {"type": names} if "string" in names else {**_TEMPLATE, "type": [*names, "string"]}


def _default(value: Any) -> Schema:
    items = value if isinstance(value, (list, tuple)) else [value]
    if not all(isinstance(item, _PLAIN) for item in items):
        return {}
    return {"default": list(value) if isinstance(value, tuple) else value}


def _object(keys: Collection[str], path: str = "") -> Schema:
    """Returns the schema of a section with fixed keys."""
    properties: Schema = {"_delete_": _BOOLEAN}
    for key in sorted(keys):
        inner = f"{path}.{key}"
        properties[key] = _nullable(_object(FIXED_KEYS[inner], inner)) if inner in FIXED_KEYS else _value(key)
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _types(accepts: Any) -> list[Schema]:
    """Returns the schemas of the types that a section accepts, or an empty list if a function validates the section."""
    types = accepts if isinstance(accepts, tuple) else ()
    return [{"type": _JSON_TYPES[kind]} for kind in types if kind in _JSON_TYPES]


def _if_typed(typed: Schema, default: Schema) -> Schema:
    """Returns the schema of a section whose `type` may be omitted."""
    return {"if": _TYPED, "then": typed, "else": default}


def _one_or_many(registry: str) -> list[Schema]:
    """Returns the schemas of an entry and of a list of entries.

    In a list, entries need a `type`, because a base cannot set it.
    """
    items = [{**_ref(registry), **_TYPED}, _TEMPLATE, {"type": "array"}]
    return [_ref(registry), {"type": "array", "items": {"anyOf": items}}]


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name.replace(' ', '%20')}"}


def _nullable(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}, _TEMPLATE]} if schema else {}
