"""The guide `docs/hooks.md` is correct: its hooks work together, and its table lists every hook."""

import logging
import re
from pathlib import Path
from typing import Any

import pytest

from footplate import HOOKS, Config, Runner, hooks
from footplate.engine import Priority
from tests.support import json_lines, settings

GUIDE = (Path(__file__).parents[3] / "docs/hooks.md").read_text(encoding="utf-8")


def test_hooks_of_the_guide_work_together(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    (block,) = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    (tmp_path / "hooks.py").write_text(block)
    cfg = Config.fromfile(tmp_path / "hooks.py").to_dict()
    cfg["default_hooks"]["logger"]["interval"] = 2
    runner = Runner(**settings(tmp_path / "run", log_level="INFO", preflight=True, **cfg))
    runner.train()
    lines = json_lines(f"{runner.log_dir}/vis_data/scalars.json")
    assert {"loss", "accuracy"} <= {name for line in lines for name in line}
    assert len(list((tmp_path / "run").glob("best_accuracy_*"))) == 2
    assert len(list((tmp_path / "run").glob("best_loss_*"))) == 2
    said = "\n".join(caplog.messages)
    assert "Freezing " in said
    assert "Self CPU" in said


def test_every_hook_is_listed() -> None:
    named = set(re.findall(r"`(\w+Hook)`", GUIDE))
    assert set(hooks.__all__) - named == set()


def test_table_of_priorities_is_correct() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| (\d+) \|(.*)\|$", GUIDE, re.MULTILINE)
    assert [(name, int(number)) for name, number, _ in rows] == [(each.name, each.value) for each in Priority]
    told = {hook: name for name, _, named in rows for hook in re.findall(r"`(\w+Hook)`", named)}
    known = {name: getattr(hooks, name).priority for name in hooks.__all__ if not getattr(hooks, name).acts_last}
    of_tasks = ("NumClassCheckHook", "NaiveVisualizationHook")
    assert told == {
        **known,
        **{name: HOOKS.get(name).priority for name in of_tasks},  # type: ignore[attr-defined]
    }


def test_hook_of_the_guide_ends_a_run_and_resumes(tmp_path: Path) -> None:
    names: dict[str, Any] = {"__name__": "guide"}
    (text,) = re.findall(r'```python title="my_hooks.py"\n(.*?)```', GUIDE, re.DOTALL)
    HOOKS._entries.pop("LossWatch", None)
    exec(text, names)
    try:
        watch = names["LossWatch"](interval=1, patience=2)
        watch.best = 0.0  # no loss is below it
        often: dict[str, Any] = {"by_epoch": False, "default_hooks": {"checkpoint": {"by_epoch": False, "interval": 1}}}
        runner = Runner(**settings(tmp_path, **often, custom_hooks=[watch]))
        runner.train()
        assert (runner.iter, watch.waited) == (2, 2)
        again = names["LossWatch"](interval=1, patience=20)
        resumed = Runner(**settings(tmp_path, **often, custom_hooks=[again], resume=True))
        resumed.train()
        assert (again.best, again.waited) == (0.0, 12)
    finally:
        HOOKS._entries.pop("LossWatch", None)
