import json
from pathlib import Path
from typing import Any

import pytest

from footplate import Runner
from footplate.errors import ArgumentError
from footplate.hooks import ProfilerHook
from tests.support import settings


def run(tmp_path: Path, **hook: Any) -> Runner:
    cfg = settings(tmp_path, custom_hooks=[{"type": "ProfilerHook", **hook}], log_level="INFO")
    cfg["default_hooks"] = {"checkpoint": None}
    runner = Runner(**cfg)
    runner.train()
    return runner


def test_trace_contains_operations_of_the_model(tmp_path: Path) -> None:
    runner = run(tmp_path, by_epoch=False, profile_times=2, json_trace_path="deep/trace.json")
    trace = json.loads((Path(runner.log_dir) / "deep/trace.json").read_text())
    assert any(event["name"] == "aten::linear" for event in trace["traceEvents"])


@pytest.mark.filterwarnings("ignore:.*clears events at the end of each cycle")  # torch warns once
def test_each_cycle_of_the_schedule_is_written(tmp_path: Path) -> None:
    schedule = {"wait": 1, "warmup": 1, "active": 1, "repeat": 2}
    runner = run(tmp_path, schedule=schedule, on_trace_ready={"type": "tb_trace"}, profile_times=2)
    assert len(list(Path(runner.log_dir).glob("tb_trace/*.pt.trace.json"))) == 2


@pytest.mark.parametrize(
    ("hook", "key", "suggestion"),
    [
        ({"schedule": {"wait": 1, "warm_up": 1}}, "schedule.warm_up", "warmup"),
        ({"on_trace_ready": {"type": "log_trac"}}, "on_trace_ready.type", "log_trace"),
    ],
)
def test_invalid_arguments(hook: dict[str, Any], key: str, suggestion: str | None) -> None:
    with pytest.raises(ArgumentError) as caught:
        ProfilerHook(**hook)
    assert (caught.value.key, caught.value.suggestion) == (key, suggestion)
