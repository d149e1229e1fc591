import contextlib
from pathlib import Path

import pytest

from footplate.config import Config
from footplate.engine.plan.top_level_keys import check_top_level_keys, misspelled_key
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
        ("Model", "model"),
        ("workdir", "work_dir"),
        ("models", None),
        ("eval_dataloader", None),
        ("conv_cfg", None),
    ],
)
def test_typos_are_distinguished_from_other_keys(key: str, near: str | None) -> None:
    assert misspelled_key(key, KNOWN) == near


def test_misspelled_key_is_refused_with_its_line(tmp_path: Path) -> None:
    main = tmp_path / "main.py"
    main.write_text("model = dict()\ntrain_dataloder = dict(batch_size=2)\n")
    with pytest.raises(ConfigKeyError, match="unknown key 'train_dataloder'") as caught:
        check_top_level_keys(Config.fromfile(main))
    assert caught.value.origin == Origin(str(main), 2)
    assert caught.value.suggestion == "train_dataloader"


@pytest.mark.parametrize(("value", "refused"), [("None", False), ("False", False), ("True", True), ("0", True)])
def test_key_with_none_or_false_is_not_reported(value: str, refused: bool) -> None:
    cfg = Config.fromstring(f"optimzer = {value}\n", ".py")
    with pytest.raises(ConfigKeyError) if refused else contextlib.nullcontext():
        check_top_level_keys(cfg)
