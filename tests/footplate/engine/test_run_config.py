"""Every key of other engines is supported, rejected or reported."""

import copy
import logging
from pathlib import Path
from typing import Any

import pytest

from footplate.config import Config, read_recorded
from footplate.engine import Runner
from footplate.engine.plan.arguments import SECOND_GENERATION_KEYS
from footplate.engine.plan.plan import RunPlan
from footplate.errors import FootplateError
from footplate.tools.check import check
from footplate_vision.inference.trained_model import open_trained
from tests.support import settings

# The arguments of both runners of MMEngine 0.10.7, and the other config keys that they read.
MMENGINE = (
    *("model", "work_dir", "train_dataloader", "val_dataloader", "test_dataloader", "train_cfg", "val_cfg", "test_cfg"),
    *("auto_scale_lr", "optim_wrapper", "param_scheduler", "val_evaluator", "test_evaluator", "default_hooks"),
    *("custom_hooks", "data_preprocessor", "load_from", "resume", "launcher", "env_cfg", "log_processor", "log_level"),
    *("visualizer", "default_scope", "randomness", "experiment_name", "compile", "strategy"),
    *("activation_checkpointing", "efficient_conv_bn_eval", "find_unused_parameters", "gpu_ids", "model_wrapper_cfg"),
    *("runner_type", "sync_bn", "custom_imports", "tta_model", "tta_pipeline"),
)
REFUSED = [
    ("strategy", {"type": "DeepSpeedStrategy"}, "strategy"),
    ("strategy", {"type": "DDPStrategy", "sync_bn": "torch"}, "strategy"),
    ("precise_bn", {"num_iters": 200, "interval": 2}, "precise_bn"),
]
NAMED = [
    ("efficient_conv_bn_eval", ["layers"]),
    ("gpu_ids", [0, 1]),
    ("fp16", {"loss_scale": 512.0}),
    ("runner", {"type": "EpochBasedRunner", "max_epochs": 12}),
]


def written(tmp_path: Path, **changes: Any) -> Config:
    path = tmp_path / "run.py"
    path.write_text("\n".join(f"{key} = {value!r}" for key, value in settings(tmp_path, **changes).items()))
    return Config.fromfile(path)


HELPERS = """
_base_ = []
from pathlib import Path
import datetime, numpy as np
root, lr, tags = Path("/data"), np.float32(0.25), frozenset({"a"})
mean = np.array([1.0, 2.0])
mean = mean * 2
day = datetime.date(2026, 1, 1)
stats = dict(mean=mean, root=root)
file = open("run.py")
file.close()
work_dir = "work"
optim_wrapper = dict(optimizer=dict(type="SGD", lr=lr))
paths = [root / "images", tags]
"""


def test_a_config_with_helper_variables_is_recorded_without_those_that_are_no_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run.py").write_text((written(tmp_path).dump() or "") + HELPERS)
    cfg = Config.fromfile("run.py")
    copy.deepcopy(cfg)  # as `check` does
    Runner.from_cfg(cfg).train()
    assert "lacks a value" not in caplog.text
    (recorded,) = Path("work").glob("*/vis_data/config.py")
    for each in (open_trained("work/epoch_3.pth").cfg, read_recorded(recorded), read_recorded("work/run.py")):
        assert each.optim_wrapper.optimizer == {"type": "SGD", "lr": 0.25}
        assert (each.root, each.tags, each.paths) == ("/data", {"a"}, ["/data/images", {"a"}])
        assert {"mean", "day", "stats", "file"}.isdisjoint(each)


def test_each_mmengine_key_is_read_or_unsupported() -> None:
    answered = {*SECOND_GENERATION_KEYS, *(key for key, *_ in REFUSED), *(key for key, _ in NAMED)}
    assert [key for key in MMENGINE if key not in answered] == []


@pytest.mark.parametrize(("key", "value", "path"), REFUSED)
def test_unsupported_key_that_changes_results_raises(tmp_path: Path, key: str, value: Any, path: str) -> None:
    cfg = written(tmp_path, **{key: value})
    for use in (RunPlan.from_config, Runner.from_cfg):
        with pytest.raises(FootplateError) as caught:
            use(cfg)

        assert caught.value.key == path
        assert caught.value.origin
        assert caught.value.origin.file.endswith("run.py")
        assert caught.value.notes or caught.value.suggestion


@pytest.mark.parametrize(("key", "value"), NAMED)
def test_unsupported_key_without_effect_logs_a_warning(tmp_path: Path, key: str, value: Any) -> None:
    told = check(written(tmp_path, **{key: value}), run=False).text

    assert [line for line in told.splitlines() if line.startswith("warning") and key in line]


@pytest.mark.parametrize("key", ["efficient_conv_bn_eval", "use_ddp_wrapper", "train_cfg.fast_forward_on_resume"])
def test_run_logs_an_unsupported_key_once(tmp_path: Path, caplog: pytest.LogCaptureFixture, key: str) -> None:
    with caplog.at_level(logging.WARNING, "footplate"):
        cfg = written(tmp_path)
        cfg.merge_from_dict({key: True})
        Runner.from_cfg(cfg).train()

    assert len([each for each in caplog.messages if f"{key} has no effect in footplate" in each]) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"strategy": {"type": "mmengine.DDPStrategy"}},
        {"omnisource": False},
        {"runner_type": "Runner"},
    ],
)
def test_plain_strategy_is_accepted(tmp_path: Path, changes: Any) -> None:
    assert "warning" not in check(written(tmp_path, **changes), run=False).text


@pytest.mark.parametrize(
    ("own", "warned"),
    [
        ({"type": "BaseDataPreprocessor"}, True),
        ({"type": "ImgDataPreprocessor", "pad_value": 3}, False),
        ({"type": "ImgDataPreprocessor", "pad_value": 3, "_scope_": "footplate"}, False),  # a base from a code base
    ],
)
def test_preprocessor_that_the_model_does_not_use_is_reported(tmp_path: Path, own: Any, warned: bool) -> None:
    model = {"type": "ToyModel", **({"data_preprocessor": own} if own else {})}
    top = {"type": "ImgDataPreprocessor", "pad_value": 3}
    lines = check(written(tmp_path, model=model, data_preprocessor=top), run=False).text.splitlines()

    found = [line for line in lines if "data_preprocessor has no effect, because the model has its own" in line]
    assert [f"{Path('run.py')}:" in line for line in found] == ([True] if warned else [])
