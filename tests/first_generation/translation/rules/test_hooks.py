from tests.first_generation.translation.support import EPOCHS, sections


def test_checkpoint_config_none_disables_the_checkpoint_hook() -> None:
    assert sections({**EPOCHS, "checkpoint_config": None})["default_hooks"]["checkpoint"] is None


def test_default_hooks_have_first_generation_priorities() -> None:
    hooks = sections({**EPOCHS, "checkpoint_config": {"interval": 1}})["default_hooks"]
    assert {name: hook["priority"] for name, hook in hooks.items()} == {
        "param_scheduler": "VERY_HIGH",
        "checkpoint": "NORMAL",
        "timer": "LOW",
        "logger": "VERY_LOW",
    }
