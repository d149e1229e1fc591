"""The JSON schema of configs: recipes fit it, mistakes do not."""

from functools import cache
from typing import Any

import jsonschema  # type: ignore[import-untyped, unused-ignore]
import pytest

from footplate.config import Config
from footplate.engine.run_config import translate_config
from footplate.engine.sections import SECTIONS
from footplate.registry import HOOKS, OPTIMIZERS
from footplate.tasks.recipes import Recipe, recipes
from footplate.tools.config_schema import config_schema, describe_arguments


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
    for each in (cfg, translate_config(cfg)):
        assert [error.message for error in validator().iter_errors(as_data(each.to_dict()))] == []


@pytest.mark.parametrize(
    "cfg",
    [
        {},
        {"model": {"type": "MyModel", "depth": 3}},
        {"my_variable": 3},
        {"train_cfg": {"max_iters": 3, "val_begin": 2}},
        {"default_hooks": {"checkpoint": {"interval": 3}, "logger": None, "mine": {"type": "MyHook", "a": 1}}},
        {"custom_hooks": [{"type": "EarlyStoppingHook", "monitor": "mIoU", "priority": 3}]},
        {"optim_wrapper": {"generator": {"optimizer": {"type": "SGD", "lr": 0.1}}}},
        {"optim_wrapper": {"optimizer": {"type": "SGD", "lr": 0.1}, "paramwise_cfg": {"bias_lr_mult": 2}}},
        {"val_dataloader": {"day": {"batch_size": 2}, "night": {"batch_size": 1}}},
        {"val_evaluator": {"day": {"type": "IoUMetric"}}},
        {"default_scope": "mmdet", "train_dataloader": {"dataset": {"type": "CocoDataset", "backend_args": None}}},
        {"compile": True},
        {"_base_": "a.py", "model": {"num_classes": 4}, "optim_wrapper": {"optimizer": {"lr": 3e-4}}},
        {"_base_": "a.py", "train_dataloader": {"dataset": {"split": "train"}}, "optim_wrapper": {"loss_scale": 2.0}},
        {"optim_wrapper": {"_delete_": True, "optimizer": {"_delete_": True, "type": "SGD", "lr": 0.1}}},
        {"train_cfg": {"max_iters": "{{ _base_.n }}"}, "custom_hooks": ["{{ _base_.hook }}"]},
        {"resume_settings": "take", "train_cfg": {"max_iters": 3, "max_hours": 0.1}},
    ],
)
def test_valid_sections(cfg: dict[str, Any]) -> None:
    assert [error.message for error in validator().iter_errors(cfg)] == []


@pytest.mark.parametrize(
    ("cfg", "path"),
    [
        ({"randomness": {"sed": 1}}, ["randomness"]),
        ({"env_cfg": {"mp_cfg": {"threads": 1}}}, ["env_cfg"]),
        ({"train_cfg": {"max_iters": 3, "val_begn": 2}}, ["train_cfg"]),
        ({"train_cfg": {"max_iters": "many"}}, ["train_cfg"]),
        ({"default_hooks": {"checkpoint": {"intervl": 3}}}, ["default_hooks"]),
        ({"custom_hooks": [{"patience": 3}]}, ["custom_hooks"]),
        ({"optim_wrapper": {"optimizer": {"type": "SGD", "rate": 0.1}}}, ["optim_wrapper"]),
        ({"train_dataloader": {"batchsize": 3}}, ["train_dataloader"]),
        ({"train_dataloader": {"batch_size": 0}}, ["train_dataloader"]),
        ({"model": {"type": "SmallSegmentor", "num_clases": 3}}, ["model"]),
        ({"visualizer": {"vis_backends": 3}}, ["visualizer"]),
    ],
)
def test_mistakes_are_found(cfg: dict[str, Any], path: list[str]) -> None:
    assert [list(error.absolute_path)[:1] for error in validator().iter_errors(cfg)] == [path]


def test_sections_and_classes_are_described() -> None:
    schema = config_schema()
    for section in SECTIONS:
        assert len(schema["properties"][section.name]["description"]) > 20
    assert schema["properties"]["on_save_error"]["default"] == "warn"
    hook = schema["$defs"]["hook.CheckpointHook"]
    assert hook["properties"]["interval"]["type"] == ["integer", "string"]
    assert hook["properties"]["save_optimizer"]["default"] is True
    assert schema["$defs"]["hook"]["properties"]["type"]["examples"] == sorted(HOOKS.module_dict)
    assert "params" not in schema["$defs"]["optimizer.SGD"]["properties"]
    assert {f"optimizer.{name}" for name in OPTIMIZERS.module_dict} <= set(schema["$defs"])


class _Base:
    """A base.

    Args:
        size: The size
            in pixels.
        mode: Replaced below.

    Raises:
        ValueError: Never.
    """


class _Derived(_Base):
    """A derived class.

    Args:
        mode: The mode: "a" or "b".
    """


def test_descriptions_of_arguments_include_those_of_base_classes() -> None:
    assert describe_arguments(_Derived) == {"size": "The size in pixels.", "mode": 'The mode: "a" or "b".'}
