import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from footplate.config import Config, check_keys
from footplate.config.keys import near_miss
from footplate.errors import ConfigKeyError, Origin

NAMES = """
model data_preprocessor train_dataloader val_dataloader test_dataloader train_cfg val_cfg test_cfg optim_wrapper
param_scheduler val_evaluator test_evaluator default_hooks custom_hooks load_from resume env_cfg log_processor
log_level visualizer vis_backends default_scope randomness experiment_name work_dir custom_imports data optimizer
optimizer_config lr_config runner checkpoint_config log_config evaluation workflow resume_from fp16 max_iters
max_epochs total_epochs dist_params
"""
KNOWN = NAMES.split()


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("train_dataloder", "train_dataloader"),
        ("trian_dataloader", "train_dataloader"),
        ("train_dataloaders", "train_dataloader"),
        ("traindataloader", "train_dataloader"),
        ("tst_dataloader", "test_dataloader"),
        ("optim_wraper", "optim_wrapper"),
        ("param_schduler", "param_scheduler"),
        ("default_hook", "default_hooks"),
        ("custom_hook", "custom_hooks"),
        ("val_evalutor", "val_evaluator"),
        ("max_iter", "max_iters"),
        ("Model", "model"),
        ("modle", "model"),
        ("optimzer", "optimizer"),
        ("load_form", "load_from"),
        ("workdir", "work_dir"),
        ("randomnes", "randomness"),
        ("models", None),
        ("codec", None),
        ("dataset", None),
        ("evaluator", None),
        ("eval_dataloader", None),
        ("gallery_dataloader", None),
        ("val_evaluator_dice", None),
        ("lora_config", None),
        ("pad_cfg", None),
        ("conv_cfg", None),
        ("vis_dataloader", None),
        ("hooks", None),
    ],
)
def test_slips_are_told_from_words_of_their_own(key: str, near: str | None) -> None:
    assert near_miss(key, KNOWN) == near


def test_a_misspelt_key_is_refused_with_its_line(write: Callable[[Mapping[str, str]], Path]) -> None:
    main = write({"main.py": "model = dict()\ntrain_dataloder = dict(batch_size=2)\n"})
    with pytest.raises(ConfigKeyError, match="unknown key 'train_dataloder'") as caught:
        check_keys(Config.fromfile(main), KNOWN)
    assert caught.value.origin == Origin(str(main), 2)
    assert caught.value.suggestion == "train_dataloader"


@pytest.mark.parametrize("use", ["train_cfg = dict(max_iters=max_iter)", "a = f'{max_iter}'", "b = max_iter * 2"])
def test_a_variable_that_other_lines_read_is_no_mistake(write: Callable[[Mapping[str, str]], Path], use: str) -> None:
    main = write(
        {"main.py": f"_base_ = 'b.py'\n{use.replace('max_iter)', '_base_.max_iter)')}\n", "b.py": "max_iter = 3\n"}
    )
    if "_base_.max_iter" not in main.read_text():
        main.write_text(f"max_iter = 3\n{use}\n")
    check_keys(Config.fromfile(main), KNOWN)


@pytest.mark.parametrize(("value", "refused"), [("None", False), ("False", False), ("True", True), ("0", True)])
def test_a_key_that_switches_nothing_on_is_let_be(
    write: Callable[[Mapping[str, str]], Path], value: str, refused: bool
) -> None:
    cfg = Config.fromfile(write({"main.py": f"optimzer = {value}\n"}))
    with pytest.raises(ConfigKeyError) if refused else contextlib.nullcontext():
        check_keys(cfg, KNOWN)
