"""Tests that a capture is checked before it is used, and that every layer of the replayed iteration is recorded."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from footplate.checkpoint import save_checkpoint
from footplate.config import Config
from footplate.engine import Runner
from footplate.errors import ArgumentError, NonFiniteError
from footplate.tools.replay import LayerTrace, Reading, read_facts, readable_tensors, replay
from tests.distributed.conftest import OnRanks, on_ranks  # noqa: F401 - a fixture
from tests.support import settings
from tests.tools.bursting import BurstingModel

FACTS = {
    "iteration": 7,
    "message": "the loss has been nan since iteration 7",
    "origin": None,
    "load_from": None,
    "seed": 1,
    "world_size": 1,
    "device": "cpu",
    "threads": 1,
    "torch": "2.9.0",
}
A_TEXT = "a string of at most 65536 characters"


def _capture(tmp_path: Path, facts: Any) -> str:
    path = tmp_path / "nonfinite_iter_7.capture"
    save_checkpoint({"capture": facts}, path)
    return str(path)


def test_the_facts_of_a_capture_are_returned(tmp_path: Path) -> None:
    assert read_facts(_capture(tmp_path, {**FACTS, "more": [1]})) == {**FACTS, "more": [1]}


@pytest.mark.parametrize("key", FACTS)
def test_missing_fact_is_named(tmp_path: Path, key: str) -> None:
    path = _capture(tmp_path, {name: value for name, value in FACTS.items() if name != key})
    with pytest.raises(ArgumentError) as caught:
        read_facts(path)
    assert str(caught.value) == f"'{key}' is missing from the capture '{path}'\n  key capture.{key}"


NO_TEXTS: list[object] = [None, 3, [[]], "x" * 70_000]
NO_PATHS: list[object] = [3, {"a": {"b": 1}}, "x" * 70_000]


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        *(("iteration", value, f"an integer from 1 to {10**12}") for value in (True, 0, 7.0, "7", 10**18, [7])),
        *(("seed", value, f"an integer from 0 to {2**32 - 1}") for value in (None, -1, 2**32, {"a": 1})),
        *(("threads", value, "an integer from 1 to 1024") for value in (0, 10**9, "2", None)),
        ("world_size", "two", f"an integer from 1 to {2**20}"),
        *((key, value, A_TEXT) for key in ("message", "device", "torch") for value in NO_TEXTS),
        *((key, value, A_TEXT) for key in ("origin", "load_from") for value in NO_PATHS),
    ],
)
def test_invalid_fact_is_named(tmp_path: Path, key: str, value: object, wanted: str) -> None:
    path = _capture(tmp_path, {**FACTS, key: value})
    with pytest.raises(ArgumentError) as caught:
        read_facts(path)
    lines = str(caught.value).splitlines()
    assert lines[:2] == [f"'{key}' in the capture '{path}' must be {wanted}", f"  key capture.{key}"]


def test_first_generation_config_keeps_its_random_state_and_hooks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[Config] = []

    def record(cfg: Config, **_: Any) -> Runner:
        built.append(cfg)
        raise ArgumentError("nothing is trained in this test")

    monkeypatch.setattr(Runner, "from_cfg", record)
    cfg = Config(
        {
            "model": {"type": "Net"},
            "data": {"train": {"type": "Images"}},
            "optimizer": {"type": "SGD", "lr": 0.1},
            "lr_config": {"policy": "fixed"},
            "runner": {"type": "IterBasedRunner", "max_iters": 8},
            "work_dir": "work",
            "seed": 5,
            "deterministic": True,
        }
    )
    facts = {**FACTS, "seed": 9, "threads": torch.get_num_threads()}
    with pytest.raises(ArgumentError, match="nothing is trained"):
        replay(cfg, str(tmp_path / "nonfinite_iter_7.capture"), facts)
    (found,) = built
    assert found["randomness"] == {"seed": 9, "deterministic": True}
    assert found["default_hooks"] == {
        "timer": {"priority": "LOW"},
        "param_scheduler": {"priority": "VERY_HIGH"},
        "checkpoint": None,
        "logger": None,
    }
    assert cfg["work_dir"] == "work"


def stopping_run(folder: Path, way: str, launcher: str) -> Config:
    return Config(
        settings(
            folder / "work",
            by_epoch=False,
            model={"type": BurstingModel, "way": way},
            on_nonfinite={"interval": 1, "grad": "stop"},
            launcher=launcher,
        )
    )


def replayed(folder: Path, way: str) -> tuple[int, list[str]]:
    path = str(folder / "work" / "nonfinite_iter_7.capture")
    found = replay(stopping_run(folder, way, "pytorch"), path, read_facts(path))
    return found.iteration, [each.name for each in found.trace.outputs]


@pytest.mark.parametrize("way", ["forward", "backward"])
def test_replay_with_several_processes_reports_no_failure(
    way: str,
    tmp_path: Path,
    on_ranks: OnRanks,  # noqa: F811
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(NonFiniteError):
        Runner.from_cfg(stopping_run(tmp_path, way, "none")).train()
    capfd.readouterr()
    first, second = on_ranks(2, replayed, tmp_path, way)
    assert first == second
    assert first[0] == 7
    assert "error" not in capfd.readouterr().err


class Net(nn.Module):
    """Two layers; the outputs of the second come in a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False)
        with torch.no_grad():
            self.first.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
            self.second.weight.fill_(1.0)

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        return {"score": self.second(self.first(inputs)).log()}


@pytest.mark.parametrize(
    ("values", "nans", "infinities", "low", "high"),
    [
        ([1.0, -2.0], 0, 0, -2.0, 1.0),
        ([math.nan, 3.0, math.inf, -math.inf], 1, 2, 3.0, 3.0),
        ([math.nan], 1, 0, math.nan, math.nan),
        ([], 0, 0, math.nan, math.nan),
    ],
)
def test_reading_of_a_tensor(values: list[float], nans: int, infinities: int, low: float, high: float) -> None:
    found = Reading.of(torch.tensor(values), "", "Linear")
    assert (found.name, found.nans, found.infinities) == ("(model)", nans, infinities)
    assert [found.low, found.high] == pytest.approx([low, high], nan_ok=True)
    assert found.finite is not bool(nans or infinities)


def test_layers_are_recorded_in_the_order_of_computation() -> None:
    model = Net()
    trace = LayerTrace(model)
    model(torch.tensor([[1.0, 1.0]]))["score"].sum().backward()
    assert [(each.name, each.kind, each.low) for each in trace.outputs] == [
        ("first", "Linear", 1.0),
        ("second", "Linear", 3.0),
        ("(model)", "Net.score", pytest.approx(math.log(3.0))),
    ]
    assert [each.name for each in trace.flowing] == ["(model)", "second", "first"]
    assert [(each.name, each.shape) for each in trace.gradients] == [
        ("second.weight", (1, 2)),
        ("first.weight", (2, 2)),
    ]


@pytest.mark.parametrize(
    ("broken", "notes"),
    [("input", "inputs non-finite, weights finite"), ("weight", "inputs finite, weights non-finite")],
)
def test_non_finite_output_has_a_note_about_inputs_and_weights(broken: str, notes: str) -> None:
    model = Net()
    if broken == "weight":
        model.first.weight.data[0, 0] = math.nan
    trace = LayerTrace(model)
    model(torch.tensor([[math.inf if broken == "input" else 1.0, 1.0]]))
    assert trace.outputs[0].notes == notes


def test_trace_does_not_change_the_model_and_is_removed() -> None:
    model, twin = Net(), Net()
    trace = LayerTrace(model)
    inputs = torch.rand(3, 2)
    model(inputs)["score"].sum().backward()
    twin(inputs)["score"].sum().backward()
    assert torch.equal(model.first.weight.grad, twin.first.weight.grad)  # type: ignore[arg-type]
    trace.close()
    model(inputs)["score"].sum().backward()
    assert (len(trace.outputs), len(trace.gradients)) == (3, 2)


def test_tensors_are_found_in_nested_values() -> None:
    found = readable_tensors({"a": [torch.zeros(1), (torch.ones(1), torch.ones(1, dtype=torch.int64))], "b": None})
    assert [(key, float(each)) for key, each in found] == [(".a[0]", 0.0), (".a[1][0]", 1.0)]


def test_complex_tensor_is_read_by_real_and_imaginary_parts() -> None:
    found = Reading.of(torch.tensor([1 - 2j, complex(math.nan, 5), 3j]), "layer", "gradient")
    assert (found.nans, found.low, found.high, found.shape) == (1, -2.0, 3.0, (3,))
    assert [key for key, _ in readable_tensors({"a": torch.zeros(1, dtype=torch.complex64)})] == [".a"]
