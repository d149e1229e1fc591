"""`train_dataloader.batch_size='auto'`: the size that fits, the record of a resumed run, errors."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from footplate.cli.config_arguments import has_automatic_batch_size
from footplate.config import Config
from footplate.engine import Runner
from footplate.engine.checking.plan import RunPlan
from footplate.errors import ArgumentError, FootplateError
from footplate.registry import MODELS
from footplate.tools import automatic_batch_size
from footplate.tools.automatic_batch_size import choose_batch_size
from tests.support import TINY, PointModel


@MODELS.register_module()
class Limited(PointModel):
    """A model that fails if a batch has more than `most` samples."""

    def __init__(self, most: int = 0, error: str = "MemoryError") -> None:
        super().__init__()
        self.layers, self.most, self.error = nn.Linear(4, 2), most, error

    def score(self, inputs: Tensor) -> Tensor:
        if self.most and len(inputs) > self.most:
            if self.error == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise {"MemoryError": MemoryError, "ValueError": ValueError}[self.error](f"{len(inputs)} samples.")
        return super().score(inputs)


def config(folder: Path, **changes: str) -> Path:
    path = folder / "tiny.py"
    lines = {
        "model": "dict(type='Limited')",
        "train_dataloader['batch_size']": "'auto'",
        "train_dataloader['dataset']": "dict(type='Points', size=320)",
        "train_cfg": "dict(by_epoch=True, max_epochs=1)",
        "val_cfg": "None",
        "val_dataloader": "None",
        "val_evaluator": "None",
        "work_dir": repr(str(folder / "work")),
        "param_scheduler": "None",
        "custom_imports": "dict(imports=['tests.support', 'tests.footplate.tools.test_automatic_batch_size'])",
        **changes,
    }
    path.write_text("\n".join([TINY, *(f"{key} = {value}" for key, value in lines.items())]) + "\n")
    return path


def chosen(path: Path, **changes: Any) -> tuple[Config, str]:
    cfg = Config.fromfile(path)
    assert has_automatic_batch_size(cfg)
    for key, value in changes.items():
        cfg[key] = value
    return choose_batch_size(cfg)


def test_size_doubles_until_memory_runs_out(tmp_path: Path) -> None:
    cfg, note = chosen(config(tmp_path, model="dict(type='Limited', most=14)"))
    assert note == "batch_size='auto': 8 samples (larger batches fail: MemoryError: 16 samples.)"
    assert cfg["train_dataloader"]["batch_size"] == 8
    assert not has_automatic_batch_size(cfg)


def test_process_that_the_system_kills_gives_the_last_size_that_fits(tmp_path: Path) -> None:
    cfg, note = chosen(config(tmp_path, model="dict(type='Limited', most=14, error='kill')"))
    assert note == "batch_size='auto': 8 samples (larger batches fail: the process ended with exit code -9)"
    assert cfg["train_dataloader"]["batch_size"] == 8


def test_no_batch_is_larger_than_the_dataset(tmp_path: Path) -> None:
    data = {"train_dataloader['dataset']": "dict(type='Points', size=50)"}
    path = config(tmp_path, model="dict(type='Limited')", **data)
    assert chosen(path)[1] == "batch_size='auto': 50 samples (the whole dataset)"


def test_resumed_or_restarted_run_keeps_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg, _ = chosen(config(tmp_path, model="dict(type='Limited', most=9)"))
    Runner.from_cfg(cfg).train()
    path = config(tmp_path, model="dict(type='Limited', most=5)")
    resumed, note = chosen(path, resume=True)
    assert note == "batch_size='auto': 8 samples (as in the resumed run)"
    assert resumed["train_dataloader"]["batch_size"] == 8
    assert chosen(path)[0]["train_dataloader"]["batch_size"] == 4
    assert chosen(path, work_dir=str(tmp_path / "none"), resume=True)[0]["train_dataloader"]["batch_size"] == 4
    other = {"work_dir": str(tmp_path / "other"), "load_from": f"{cfg['work_dir']}/epoch_1.pth"}
    assert chosen(path, **other, resume=True)[0]["train_dataloader"]["batch_size"] == 8
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert chosen(path)[0]["train_dataloader"]["batch_size"] == 8


def test_first_generation_config_gets_a_size(tmp_path: Path) -> None:
    path = tmp_path / "old.py"
    path.write_text(
        f"work_dir = {str(tmp_path / 'work')!r}\nmodel = dict(type='Limited', most=9)\n"
        "data = dict(samples_per_gpu='auto', workers_per_gpu=0, train=dict(type='Points', size=64))\n"
        "optimizer = dict(type='SGD', lr=0.1)\noptimizer_config = dict()\n"
        "lr_config = dict(policy='fixed')\nrunner = dict(type='EpochBasedRunner', max_epochs=1)\n"
    )
    cfg, _ = chosen(path)
    assert cfg["train_dataloader"]["batch_size"] == 8


@pytest.mark.parametrize(
    ("changes", "key", "message"),
    [
        (
            {"model": "dict(type='Limited', most=1, error='ValueError')"},
            "train_dataloader.batch_size",
            "a trial with 2 samples per batch fails: ValueError: 2 samples",
        ),
        ({"train_dataloader['dataset']": "dict(type='NoData')"}, "train_dataloader.dataset.type", "NoData"),
    ],
)
def test_config_that_cannot_be_tried_raises(tmp_path: Path, changes: dict[str, str], key: str, message: str) -> None:
    with pytest.raises(FootplateError, match=message) as caught:
        chosen(config(tmp_path, **changes))
    assert caught.value.key == key


def test_automatic_size_elsewhere_raises(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="must be an integer"):
        RunPlan.from_config(Config.fromfile(config(tmp_path))).check()


def test_ranks_use_the_smallest_of_their_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = (None, (4, "larger batches fail: MemoryError"))
    monkeypatch.setattr(automatic_batch_size, "gather_objects", lambda trial: [trial, other])
    cfg, note = chosen(config(tmp_path, model="dict(type='Limited', most=14)"))
    assert note == "batch_size='auto': 4 samples x 2 processes (larger batches fail: MemoryError)"
    assert cfg["train_dataloader"]["batch_size"] == 4
