from footplate.first_generation.translation import Kind
from tests.first_generation.translation.support import EPOCHS, notes, sections


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


def test_the_config_text_in_checkpoint_config_is_not_part_of_the_message() -> None:
    text = "model = dict()\n" * 100
    cfg = {**EPOCHS, "checkpoint_config": {"interval": 1, "meta": {"config": text}}}
    (message,) = [note for note in notes(cfg, Kind.WARNING) if "checkpoint_config.meta" in note]
    assert message.endswith("checkpoint_config.meta: it has no counterpart and was removed")
