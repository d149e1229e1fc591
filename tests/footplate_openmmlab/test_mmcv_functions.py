import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from footplate.checkpoint import load_checkpoint
from footplate.registry import OPTIMIZERS
from footplate_openmmlab import mmcv_functions as functions
from footplate_openmmlab.first_generation.adapters.model import MMDataParallel
from footplate_openmmlab.mmcv_functions import (
    auto_fp16,
    build_optimizer,
    force_fp32,
)
from footplate_openmmlab.mmengine.registry import build_from_cfg
from tests import programs


class _Doubling(nn.Module):
    def forward(self, inputs: Any, return_loss: bool = True) -> list[Any]:
        assert not return_loss
        return [2 * int(each) for each in inputs]


@pytest.mark.parametrize("test", [functions.single_gpu_test, functions.multi_gpu_test])
def test_test_loops_return_the_predictions(test: Any, capsys: pytest.CaptureFixture[str]) -> None:
    data: Any = [{"inputs": index} for index in range(3)]
    model = _Doubling()
    assert test(model, DataLoader(data, batch_size=2)) == [0, 2, 4]
    assert not model.training
    assert "100%" in capsys.readouterr().out


def test_build_optimizer() -> None:
    model = nn.Linear(2, 2)
    built = build_from_cfg({"type": "SGD", "lr": 0.5, "params": model.parameters()}, OPTIMIZERS)
    assert (type(built), built.param_groups[0]["lr"]) == (torch.optim.SGD, 0.5)
    cfg = {"type": "SGD", "lr": 0.5, "weight_decay": 0.1, "paramwise_cfg": {"bias_lr_mult": 2.0}}
    rates = [group["lr"] for group in build_optimizer(MMDataParallel(model), cfg).param_groups]
    assert rates == [0.5, 1.0]


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    @auto_fp16(apply_to=("features",))
    def forward(self, features: Tensor) -> Tensor:
        return self.layer(features)  # type: ignore[no-any-return]

    @force_fp32(apply_to=("scores",))
    def loss(self, scores: Any, **named: Any) -> Any:
        return scores, named, self.layer(torch.ones(1, 4)).dtype


def test_force_fp32_disables_autocast_and_casts_arguments() -> None:
    half = torch.ones(1, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        scores, named, within = Head().loss([half, {"a": half}], weights=(half,), classes=torch.ones(1).long())
        assert torch.is_autocast_enabled("cpu")
    assert [scores[0].dtype, scores[1]["a"].dtype, named["weights"][0].dtype] == [torch.float32] * 2 + [torch.bfloat16]
    assert (named["classes"].dtype, within) == (torch.int64, torch.float32)


def test_a_module_with_fp16_enabled_runs_in_float16() -> None:
    head: Any = Head()
    assert head(torch.ones(1, 4)).dtype == torch.float32
    head.fp16_enabled = True
    features = head(torch.ones(1, 4))
    assert features.dtype == torch.float16
    scores, named, within = head.loss(features, weights=features)
    assert (scores.dtype, named["weights"].dtype, within) == (torch.float32, torch.float16, torch.float32)
    with pytest.raises(TypeError, match="must be a method of"):
        Head.loss(object(), features)  # type: ignore[arg-type]


@pytest.mark.parametrize(("rank", "lines"), [("0", 1), ("1", 0)])
def test_get_logger_writes_to_the_screen_of_rank_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: str, lines: int
) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from mmcv.utils import get_logger\n"
        "logger = get_logger('mine', 'mine.log')\n"
        "get_logger('mine', 'mine.log').info('parameters: 3 M')\n"
        "get_logger('quiet', log_level=30).info('hidden')\n"
        "import logging; logging.getLogger('footplate').warning('epoch 1')\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    if rank != "0":
        environment |= {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2"}
    done = programs.run("-m", "footplate", "run", str(script), folder=tmp_path, environment=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("footplate - INFO - parameters: 3 M\n") == lines
    assert "hidden" not in done.stdout
    log = (tmp_path / "mine.log").read_text()
    assert [log.count(text) for text in ("parameters: 3 M", "epoch 1")] == [1, 1]


def test_saved_weights_have_no_prefixes_of_wrappers(tmp_path: Path) -> None:
    model = nn.Sequential(MMDataParallel(nn.Linear(1, 1)), nn.Linear(1, 1))
    functions.save_checkpoint(MMDataParallel(model), str(tmp_path / "a.pth"))
    names = ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert sorted(load_checkpoint(tmp_path / "a.pth")["state_dict"]) == sorted(names)
