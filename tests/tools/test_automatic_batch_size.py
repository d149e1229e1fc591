"""`train_dataloader.batch_size='auto'`: the size that fits, the accumulation, the record, refusals."""

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from footplate.config import Config
from footplate.config.recorded import read_recorded
from footplate.engine import Runner
from footplate.errors import ArgumentError, FootplateError
from footplate.models import BaseModel
from footplate.registry import MODELS
from footplate.tools.automatic_batch_size import choose_batch_size
from tests.support import TINY

_ROOT = Path(__file__).parents[2]
_BYTES = 4 << 20  # of activations per sample


@MODELS.register_module()
class Wide(BaseModel):
    """A model that keeps a given number of bytes for each sample."""

    def __init__(self, size: int = _BYTES, most: int = 0, most_of_rank_1: int = 0, error: str = "MemoryError") -> None:
        super().__init__()
        self.layer, self.error = nn.Linear(4, 2), {"MemoryError": MemoryError, "ValueError": ValueError}[error]
        self.size, self.most = size, most_of_rank_1 if os.environ.get("RANK") == "1" else most

    def forward(self, inputs: Tensor, labels: Tensor, mode: str = "tensor") -> Any:
        if self.most and len(inputs) > self.most:
            raise self.error(f"{len(inputs)} samples.")
        scores = self.layer(inputs)
        if mode == "loss":
            wide = scores.sum(1, keepdim=True).expand(-1, self.size // 4).tanh()
            return {"loss": nn.functional.cross_entropy(scores, labels) + 0 * wide.mean()}
        return list(zip(scores.argmax(1), labels, strict=True)) if mode == "predict" else scores


# Limits the address space to what the process has now and 2 GB.
LIMITED = """
import resource, sys
import torch, footplate.engine, footplate.hooks, tests.tools.test_automatic_batch_size
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (2 << 30), used + (2 << 30)))
torch.set_num_threads(1)
from footplate.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def config(folder: Path, **changes: str) -> Path:
    path = folder / "tiny.py"
    lines = {
        "model": "dict(type='Wide')",
        "train_dataloader['batch_size']": "'auto'",
        "train_dataloader['dataset']": "dict(type='Points', size=320)",
        "train_cfg": "dict(by_epoch=True, max_epochs=1)",
        "val_cfg": "None",
        "val_dataloader": "None",
        "val_evaluator": "None",
        "work_dir": repr(str(folder / "work")),
        "param_scheduler": "None",
        "custom_imports": "dict(imports=['tests.support', 'tests.tools.test_automatic_batch_size'])",
        **changes,
    }
    path.write_text("\n".join([TINY, *(f"{key} = {value}" for key, value in lines.items())]) + "\n")
    return path


def command(*arguments: str, code: Sequence[str] = ("-m", "footplate")) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{_ROOT / 'src'}:{_ROOT}", "OMP_NUM_THREADS": "1"}
    words = [sys.executable, *code, *arguments]
    return subprocess.run(words, capture_output=True, text=True, env=environment, check=False, timeout=300)


def limited(*arguments: str) -> subprocess.CompletedProcess[str]:
    return command(*arguments, code=("-c", LIMITED))


def recorded(work_dir: Path, section: str) -> Any:
    (record,) = work_dir.glob("*/vis_data/config.json")
    return read_recorded(record)[section]


@pytest.mark.timeout(400)
@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of the address space")
def test_size_is_within_a_doubling_of_the_limit_of_two_gigabytes(tmp_path: Path) -> None:
    path = config(tmp_path)
    done = limited("train", str(path))
    assert done.returncode == 0, done.stderr
    found = recorded(tmp_path / "work", "train_dataloader")["batch_size"]
    assert f"batch_size='auto': {found} samples. Limit: " in done.stderr + done.stdout
    assert 2 * _BYTES * found < 2 << 30  # activations and their gradients
    doubled = config(
        tmp_path, **{"train_dataloader['batch_size']": str(2 * found), "work_dir": repr(str(tmp_path / "2"))}
    )
    assert limited("train", str(doubled)).returncode != 0


def chosen(path: Path, **changes: Any) -> tuple[Config, str]:
    cfg = Config.fromfile(path)
    for key, value in changes.items():
        cfg[key] = value
    return choose_batch_size(cfg)


def test_global_batch_is_kept_by_accumulation(tmp_path: Path) -> None:
    path = config(
        tmp_path, model="dict(type='Wide', size=4, most=14)", auto_scale_lr="dict(enable=True, base_batch_size=48)"
    )
    cfg, note = chosen(path)
    assert note == (
        "batch_size='auto': 12 samples x 4 accumulated = base_batch_size 48. Limit: MemoryError: 16 samples."
    )
    assert (cfg["train_dataloader"]["batch_size"], cfg["optim_wrapper"]["accumulative_counts"]) == (12, 4)
    assert cfg["auto_scale_lr"]["enable"] is False
    again, _ = choose_batch_size(cfg)
    assert again is cfg


@pytest.mark.parametrize(
    ("base", "samples", "limit"),
    [
        (320, "64 samples x 5", "dataset"),
        (64, "64 samples x 1", "base_batch_size"),
        (101, "101 samples x 1", "base_batch_size"),
    ],
)
def test_no_batch_is_larger_than_the_dataset(tmp_path: Path, base: int, samples: str, limit: str) -> None:
    changes = {"train_dataloader['dataset']": "dict(type='Points', size=64)"}
    path = config(tmp_path, model="dict(type='Wide', size=4)", auto_scale_lr=f"dict(base_batch_size={base})", **changes)
    expected = f"{samples} accumulated = base_batch_size {base}. Limit: a larger batch would exceed the {limit}."
    assert chosen(path)[1] == f"batch_size='auto': {expected}"


def test_resumed_run_keeps_its_size(tmp_path: Path) -> None:
    scale = "dict(enable=True, base_batch_size=48)"
    cfg, _ = chosen(config(tmp_path, model="dict(type='Wide', size=4, most=14)", auto_scale_lr=scale))
    Runner.from_cfg(cfg).train()
    path = config(tmp_path, model="dict(type='Wide', size=4, most=5)", auto_scale_lr=scale)
    resumed, note = chosen(path, resume=True)
    assert note == (
        "batch_size='auto': the batch size recorded in the work_dir is used. "
        "12 samples x 4 accumulated = base_batch_size 48."
    )
    assert (resumed["train_dataloader"]["batch_size"], resumed["optim_wrapper"]["accumulative_counts"]) == (12, 4)
    assert resumed["auto_scale_lr"]["enable"] is False
    fresh, _ = chosen(path, work_dir=str(tmp_path / "none"), resume=True)
    assert fresh["train_dataloader"]["batch_size"] == 4
    with pytest.raises(ArgumentError, match="is not recorded in its work_dir"):
        chosen(path, work_dir=str(tmp_path / "none"), resume=True, load_from="iter_4.pth")


def test_restarted_run_keeps_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg, _ = chosen(config(tmp_path, model="dict(type='Wide', size=4, most=9)"))
    Runner.from_cfg(cfg).train()
    path = config(tmp_path, model="dict(type='Wide', size=4, most=5)")
    assert chosen(path)[0]["train_dataloader"]["batch_size"] == 4
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert chosen(path)[0]["train_dataloader"]["batch_size"] == 8


def trial_with_endless_step(path: Path) -> None:
    cfg = Config.fromfile(path)
    Wide.forward = lambda *_, **__: time.sleep(60)  # type: ignore[method-assign]
    choose_batch_size(cfg)


def test_trial_ends_with_the_process_that_waits_for_it(tmp_path: Path) -> None:
    waiting = multiprocessing.get_context("fork").Process(target=trial_with_endless_step, args=(config(tmp_path),))
    waiting.start()
    children = Path(f"/proc/{waiting.pid}/task/{waiting.pid}/children")
    while not (found := children.read_text().split()):
        time.sleep(0.05)
    while Path(f"/proc/{found[0]}/oom_score_adj").read_text().strip() != "1000":  # set when the trial begins
        time.sleep(0.05)
    waiting.kill()
    waiting.join()
    state = Path(f"/proc/{found[0]}/stat")
    for _ in range(100):
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.05)
    raise AssertionError("the trial goes on")


def test_first_generation_config_gets_a_size(tmp_path: Path) -> None:
    path = tmp_path / "old.py"
    path.write_text(
        f"work_dir = {str(tmp_path / 'work')!r}\nmodel = dict(type='Wide', size=4, most=9)\n"
        "data = dict(samples_per_gpu='auto', workers_per_gpu=0, train=dict(type='Points', size=64))\n"
        "optimizer = dict(type='SGD', lr=0.1)\noptimizer_config = dict()\n"
        "lr_config = dict(policy='fixed')\nrunner = dict(type='EpochBasedRunner', max_epochs=1)\n"
    )
    cfg, _ = chosen(path)
    assert cfg["train_dataloader"]["batch_size"] == 8


@pytest.mark.parametrize(
    ("changes", "key", "message"),
    [
        ({"model": "dict(type='Wide', most=1)"}, "train_dataloader.batch_size", "batches of 2 samples do not fit"),
        (
            {"optim_wrapper['accumulative_counts']": "2", "auto_scale_lr": "dict(base_batch_size=8)"},
            "optim_wrapper.accumulative_counts",
            "cannot be set together with batch_size='auto'",
        ),
        (
            {
                "model": "dict(type='Wide', size=4, most=5)",
                "auto_scale_lr": "dict(base_batch_size=8)",
                "train_cfg": "dict(by_epoch=False, max_iters=3)",
            },
            "train_dataloader.batch_size",
            "would shorten this run",
        ),
        (
            {"model": "dict(type='Wide', size=4, most=5, error='ValueError')"},
            "train_dataloader.batch_size",
            "failed with a batch of 6 samples: ValueError: 6 samples.",
        ),
        ({"train_dataloader['dataset']": "dict(type='NoData')"}, "train_dataloader.dataset.type", "NoData"),
        (
            {"model_wrapper_cfg": "dict(type='FullyShard')"},
            "model_wrapper_cfg.type",
            "does not support sharded models",
        ),
        ({"train_dataloader['batchsize']": "3"}, "train_dataloader.batchsize", "takes no argument"),
    ],
)
def test_config_that_does_not_fit_raises(tmp_path: Path, changes: dict[str, str], key: str, message: str) -> None:
    with pytest.raises(FootplateError, match=message) as caught:
        chosen(config(tmp_path, **changes))
    assert caught.value.key == key


def test_automatic_size_elsewhere_raises(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="not possible here"):
        Runner.from_cfg(Config.fromfile(config(tmp_path)), check=True)


@pytest.mark.timeout(400)
def test_ranks_use_the_smallest_of_their_sizes(tmp_path: Path) -> None:
    path = config(
        tmp_path,
        model="dict(type='Wide', size=4, most=14, most_of_rank_1=7)",
        auto_scale_lr="dict(base_batch_size=48)",
        optim_wrapper="dict(optimizer=dict(type='SGD', lr=0.1))",
    )
    done = command("train", str(path), "--nproc", "2")
    assert done.returncode == 0, done.stderr
    assert (
        "batch_size='auto': 6 samples x 4 accumulated x 2 processes = base_batch_size 48. Limit: "
        in done.stderr + done.stdout
    )
    assert recorded(tmp_path / "work", "train_dataloader")["batch_size"] == 6
    assert recorded(tmp_path / "work", "optim_wrapper")["accumulative_counts"] == 4
