from pathlib import Path

import pytest

from footplate.config import Config
from footplate.errors import BuildError, Origin
from footplate.tools.key_equivalents import original_key, restore_key


@pytest.mark.parametrize(
    ("key", "line", "restored"),
    [
        ("train_dataloader.dataset.classes", 1, "data.train.classes"),
        ("train_dataloader.dataset.dataset.pipeline[0].type", 1, "data.train.pipeline[0].type"),
        ("train_dataloader.batch_size", None, "data.samples_per_gpu"),
    ],
)
def test_key_of_a_translated_section_is_that_of_the_first_generation_config(
    tmp_path: Path, key: str, line: int | None, restored: str
) -> None:
    path = tmp_path / "run.py"
    pipeline = "classes=('a', 'b'), pipeline=[dict(type='Load')]"
    path.write_text(f"data = dict(samples_per_gpu=2, train=dict({pipeline}), val=dict({pipeline}))\n")
    error = BuildError("wrong", key=key, origin=Origin(str(path), line) if line else None)
    restore_key(error, Config.fromfile(path))
    assert error.key == restored


def test_changes_of_a_translated_config_have_the_keys_that_the_user_wrote() -> None:
    schedule = {"policy": "step", "warmup": "linear", "warmup_iters": 500, "step": [8]}
    old = Config({"lr_config": schedule, "runner": {"type": "EpochBasedRunner", "max_epochs": 12}})
    paths = ["randomness", "param_scheduler[1].end", "train_cfg.max_epochs"]
    assert [original_key(old, path) for path in paths] == ["seed", "lr_config", "runner.max_epochs"]
    assert original_key(Config({"train_cfg": {"max_epochs": 12}}), "train_cfg.max_epochs") == "train_cfg.max_epochs"
