from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from footplate import Runner
from footplate.engine.determinism import name_settings
from footplate.errors import UnknownNameError
from tests.engine.test_train_loops import Stream
from tests.support import settings


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    before = torch.backends.cudnn.benchmark
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = before


CASES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"seed": 3}, {"cudnn_benchmark": True}, "env_cfg.cudnn_benchmark picks algorithms by their speed: it is off"),
    ({}, {}, "no randomness.seed is given: only randomness.seed="),
]


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize(("randomness", "env_cfg", "says"), CASES)
def test_what_breaks_determinism_is_named(
    tmp_path: Path, randomness: Any, env_cfg: Any, says: str, asked: bool, caplog: pytest.LogCaptureFixture
) -> None:
    runner = Runner(**settings(tmp_path, randomness={**randomness, "deterministic": asked}, env_cfg=env_cfg))
    found = [each for each in caplog.messages if each.startswith(f"deterministic: {says}")]
    assert len(found) == asked
    assert all(str(runner.seed) in each for each in found if "seed=" in each)
    assert not (asked and torch.backends.cudnn.benchmark)


def test_a_workspace_that_lets_products_differ_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":0:0")
    Runner(**settings(tmp_path, randomness={"seed": 1, "deterministic": True}))
    assert "deterministic: CUBLAS_WORKSPACE_CONFIG=:0:0 lets matrix products differ" in caplog.text


@pytest.mark.parametrize(
    ("compiled", "named"),
    [
        ({"mode": "max-autotune-no-cudagraphs"}, True),
        ({"options": {"max_autotune": True}}, True),
        ({"mode": "reduce-overhead"}, False),
        (True, False),
        (None, False),
    ],
)
def test_a_compiler_that_tunes_itself_is_named(compiled: Any, named: bool, caplog: pytest.LogCaptureFixture) -> None:
    for asked in (False, True):
        name_settings({"seed": 1, "deterministic": asked}, {}, 1, compiled)
    says = "deterministic: compile with max-autotune picks kernels by their speed: the next run may pick others"
    assert caplog.messages == [says] * named


def test_a_run_says_so_of_its_own_compiler(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    randomness = {"seed": 1, "deterministic": True}
    compiled: Any = {"compile": {"mode": "max-autotune-no-cudagraphs"}, "model": {"type": "NoModel"}}
    with pytest.raises(UnknownNameError):  # the warning comes before anything is compiled
        Runner(**settings(tmp_path, **compiled, randomness=randomness))
    assert "deterministic: compile with max-autotune picks kernels by their speed" in caplog.text


def test_a_loader_whose_order_is_not_ours_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stream: Any = torch.utils.data.DataLoader(Stream(), batch_size=4)
    changes = {"train_dataloader": stream, "randomness": {"seed": 1, "deterministic": True}, "param_scheduler": None}
    Runner(**settings(tmp_path, by_epoch=False, **changes)).train()
    assert "deterministic: train_dataloader: the batches of a 'DataLoader' do not follow from the seed" in caplog.text
