from tests.migration.support import EPOCHS, sections


def test_nothing_is_saved_where_checkpoint_config_is_none() -> None:
    assert sections({**EPOCHS, "checkpoint_config": None})["default_hooks"]["checkpoint"] is None


def test_the_order_of_the_hooks_is_the_first_generations() -> None:
    hooks = sections({**EPOCHS, "checkpoint_config": {"interval": 1}})["default_hooks"]
    assert {name: hook["priority"] for name, hook in hooks.items()} == {
        "param_scheduler": "VERY_HIGH",
        "checkpoint": "NORMAL",
        "timer": "LOW",
        "logger": "VERY_LOW",
    }
