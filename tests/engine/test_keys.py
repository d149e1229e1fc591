import inspect

from footplate import Runner
from footplate.engine.keys import RUNNER_KEYS
from footplate.engine.translators import known_keys
from footplate.first_generation.translation import FIRST_GENERATION_KEYS


def test_every_argument_of_the_runner_is_a_key_of_a_config() -> None:
    arguments = list(inspect.signature(Runner.__init__).parameters)
    assert list(RUNNER_KEYS) == [name for name in arguments if name not in ("self", "cfg")]


def test_known_keys_are_those_of_both_generations() -> None:
    assert {*RUNNER_KEYS, *FIRST_GENERATION_KEYS, "custom_imports", "runner_type"} <= known_keys()
    assert not {"models", "gallery_dataloader", "val_evaluator_dice", "train_dataloder"} & known_keys()
