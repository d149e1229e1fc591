"""The JSON schema of configs."""

from functools import cache
from typing import Any

import jsonschema  # type: ignore[import-untyped, unused-ignore]
import pytest

from footplate.config import Config
from footplate.config.sources import Recipe, recipes
from footplate.engine.plan.arguments import RUNNER_KEYS
from footplate.extensions import translate
from footplate.registry import HOOKS
from footplate.tools.config_schema import config_schema


@cache
def validator() -> Any:
    schema = config_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def as_data(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: as_data(item) for key, item in value.items()}
    return [as_data(item) for item in value] if isinstance(value, (list, tuple)) else value


@pytest.mark.parametrize("recipe", recipes(), ids=lambda recipe: recipe.name)
def test_recipes_are_valid(recipe: Recipe) -> None:
    cfg = Config.fromfile(str(recipe.path))
    for each in (cfg, translate(cfg)):
        assert [error.message for error in validator().iter_errors(as_data(each.to_dict()))] == []


def test_sections_and_classes_are_described() -> None:
    schema = config_schema()
    for key in RUNNER_KEYS:
        assert len(schema["properties"][key]["description"]) > 20
    assert schema["properties"]["on_save_error"]["default"] == "warn"
    hook = schema["$defs"]["hook.CheckpointHook"]
    assert hook["properties"]["interval"]["description"].startswith("The ")
    assert hook["properties"]["save_optimizer"]["default"] is True
    assert schema["$defs"]["hook"]["properties"]["type"]["examples"] == sorted(
        name for name, hook in HOOKS.module_dict.items() if hook.__module__.startswith("footplate")
    )
    assert "params" not in schema["$defs"]["optimizer.SGD"]["properties"]
    assert {"optimizer.AdamW", "optimizer.Muon", "optimizer.LARS"} <= set(schema["$defs"])
