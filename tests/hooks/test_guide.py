"""The guide `docs/hooks.md` tells the truth: its hooks act together, and its table names every hook."""

import json
import logging
import re
from pathlib import Path

import pytest

from footplate import Config, Runner, hooks
from tests.support import settings

GUIDE = (Path(__file__).parents[2] / "docs/hooks.md").read_text(encoding="utf-8")


def test_the_hooks_of_the_guide_act_together(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    (block,) = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    (tmp_path / "hooks.py").write_text(block)
    cfg = Config.fromfile(tmp_path / "hooks.py").to_dict()
    cfg["default_hooks"]["logger"]["interval"] = 2
    runner = Runner(**settings(tmp_path / "run", log_level="INFO", preflight=True, **cfg))
    runner.train()
    lines = [json.loads(line) for line in (Path(runner.log_dir) / "vis_data/scalars.json").read_text().splitlines()]
    assert {"grad_norm/first", "grad_norm/rest"} <= {name for line in lines for name in line}
    assert len(list((tmp_path / "run").glob("best_accuracy_*"))) == 2
    assert len(list((tmp_path / "run").glob("best_loss_*"))) == 2
    said = "\n".join(caplog.messages)
    assert "parameters are frozen until epoch 1" in said
    assert "Self CPU" in said


def test_every_hook_has_its_line() -> None:
    named = set(re.findall(r"`(\w+Hook)`", GUIDE))
    assert set(hooks.__all__) - named == {"ProgressHook", "RecordHook"}  # they belong to the command line
