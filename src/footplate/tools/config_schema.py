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
    **dict.fromkeys((list, tuple), "array"),
    **dict.fromkeys((dict, Collection, Mapping), "object"),
}
_ARGUMENT = re.compile(r"^    (\w+)(?: \([^)]*\))?: (.*(?:\n(?:     +.*)?)*)", re.MULTILINE)
_TEMPLATE: Schema = {"type": "string", "pattern": r"\{\{"}  # replaced by a value when the config is loaded
_TYPED: Schema = {"required": ["type"]}
_DELETE: Schema = {"_delete_": {"type": "boolean"}}
# The classes of sections without `type`. The model determines that of its data preprocessor.
_DEFAULTS = {
    **{name: [kind] for name, kind in DEFAULT_TYPES.items()},
    "optim_wrapper": ["OptimWrapper", "AmpOptimWrapper"],
    "train_cfg": ["EpochBasedTrainLoop", "IterBasedTrainLoop"],
    "data_preprocessor": [],
}
# In these sections, `type` may be a class of a code base that shares its name with a footplate class.
_OF_CODE_BASES = re.compile(r"model|data_preprocessor|visualizer|\w+_(hooks|dataloader|evaluator)")


def config_schema() -> Schema:
    """Returns the schema of a config, with descriptions and defaults.

    It accepts any argument for a `type` that is not registered, objects without a `type`, since a base may set it, and
    anything in a section that may contain classes of a code base if `default_scope` selects the code base.
    """
    parameters, meanings = inspect.signature(Runner).parameters, describe_arguments(Runner)
    described: Schema = {name: {"description": text} for name, text in OTHER_KEYS.items()}
    checked: Schema = {}
    for name, accepted, accepts, _ in SECTIONS:
        described[name] = {"description": f"{meanings[name]} Accepts {accepted}.", **_default(parameters[name].default)}
        checked[name] = _nullable(_section(name, accepts))
    scoped = {name: checked.pop(name) for name in list(checked) if _OF_CODE_BASES.fullmatch(name)}
    without_code_base = {"properties": {"default_scope": {"enum": [None, "footplate", "mmengine"]}}}
    registries = dict.fromkeys((*SECTION_REGISTRIES.values(), *NESTED_REGISTRIES.values()))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "footplate config",
        "description": "A second-generation config. Other top-level names are variables.",
        "type": "object",
        "properties": {name: {**text, **checked.get(name, {})} for name, text in described.items()},
        "if": without_code_base,
        "then": {"properties": scoped},
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


def _section(name: str, accepts: Any) -> Schema:
    """Returns the schema of a section, without its description. `accepts` is as in the table of sections."""
    if name.endswith("_dataloader"):  # one dataloader, or a dict of named dataloaders
        loader = _object(FIXED_KEYS[name])
        loader["properties"] |= {key: {"minimum": minimum} for key, minimum in LOADER_COUNTS.items()}
        return {"anyOf": [loader, {"type": "object", "properties": _DELETE, "additionalProperties": loader}]}
    if name == "default_hooks":
        hooks = {key: _nullable(_if_typed("hook", [hook["type"]])) for key, hook in DEFAULT_HOOKS.items()}
        return {"type": "object", "properties": _DELETE | hooks, "additionalProperties": _nullable(_ref("hook"))}
    if name in _DEFAULTS:
        schema = _if_typed(SECTION_REGISTRIES[name].name, _DEFAULTS[name])
        several = {"type": "object", "not": {"anyOf": [{"required": ["optimizer"]}, {"required": ["constructor"]}]}}
        return {"anyOf": [schema, several]} if name == "optim_wrapper" else schema
    if name in SECTION_REGISTRIES:
        return {"anyOf": _one_or_many(SECTION_REGISTRIES[name])}
    types = accepts if isinstance(accepts, tuple) else ()  # otherwise, a function that checks the value
    schemas: list[Schema] = [{"type": _JSON_TYPES[kind]} for kind in types if kind in _JSON_TYPES]
    if name in FIXED_KEYS:
        schemas = [_object(FIXED_KEYS[name], name), *(schema for schema in schemas if schema["type"] != "object")]
    return {"anyOf": schemas} if schemas else {}


def _definitions(registry: Registry) -> dict[str, Schema]:
    """Maps each entry of a registry to the schema of its arguments, and the registry to one that selects an entry."""
    schemas: dict[str, Schema] = {}
    cases = []
    extra: Schema = {name: {} for name in ("type", "_scope_", *EXTRA_ARGUMENTS.get(registry, ()))}
    for entry_name, entry in sorted(registry.module_dict.items()):
        arguments, names, meanings = arguments_of(entry), class_arguments(entry, registry), describe_arguments(entry)
        properties = _DELETE | extra
        for name in arguments.types if names is None else names:
            meaning = {"description": meanings[name]} if name in meanings else {}
            properties[name] = meaning | _default(arguments.defaults[name]) | _value(name, arguments.types[name])
        summary = (inspect.getdoc(entry) or "").partition("\n\n")[0].replace("\n", " ")
        key = f"{registry.name}.{entry_name}"
        schemas[key] = {"description": summary, "type": "object", "properties": properties}
        schemas[key] |= {} if names is None else {"additionalProperties": False}
        types = [entry_name, f"{registry.scope}.{entry_name}", f"mmengine.{entry_name}"]
        cases.append({"if": {**_TYPED, "properties": {"type": {"enum": types}}}, "then": _ref(key)})
    kinds = {"description": f"The name of a {registry.noun}.", "examples": sorted(registry.module_dict)}
    schemas[registry.name] = {"type": "object", "properties": {"type": kinds}, "allOf": cases}
    return schemas


def _value(name: str, types: tuple[type, ...] = ()) -> Schema:
    """Returns the schema of an argument's value, given the types that its class accepts."""
    if name in NESTED_REGISTRIES:
        return _nullable({"anyOf": [*_one_or_many(NESTED_REGISTRIES[name]), {"type": "array"}]})
    if not types or not all(kind in _JSON_TYPES for kind in types):  # a config file can express them in other ways
        return {}
    names = list(dict.fromkeys(_JSON_TYPES[kind] for kind in types))
    return {"type": names} if "string" in names else {**_TEMPLATE, "type": [*names, "string"]}


def _default(value: Any) -> Schema:
    values = value if isinstance(value, (list, tuple)) else [value]
    is_plain = all(isinstance(item, (bool, int, float, str, type(None))) for item in values)
    return {"default": list(value) if isinstance(value, tuple) else value} if is_plain else {}


def _object(keys: Collection[str], path: str = "") -> Schema:
    """Returns the schema of a section with fixed keys."""
    properties = dict(_DELETE)
    for key in sorted(keys):
        inner = f"{path}.{key}"
        properties[key] = _nullable(_object(FIXED_KEYS[inner], inner)) if inner in FIXED_KEYS else _value(key)
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _if_typed(registry: str, defaults: Collection[str]) -> Schema:
    """Returns the schema of a section that is an entry of one of the classes `defaults` if it has no `type`."""
    default = {"anyOf": [_ref(f"{registry}.{kind}") for kind in defaults]} if defaults else {"type": "object"}
    return {"if": _TYPED, "then": _ref(registry), "else": default}


def _one_or_many(registry: Registry) -> list[Schema]:
    """Returns the schemas of an entry, and of a list of entries, whose `type` a base cannot set."""
    entry = _ref(registry.name)
    return [entry, {"type": "array", "items": {"anyOf": [{**entry, **_TYPED}, _TEMPLATE, {"type": "array"}]}}]


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name.replace(' ', '%20')}"}


def _nullable(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}, _TEMPLATE]} if schema else {}
