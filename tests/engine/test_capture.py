import math
from pathlib import Path
from typing import Any

import pytest

from footplate import Config, Runner
from footplate.checkpoint import find_latest, load_checkpoint
from footplate.engine.capture import facts_of
from footplate.errors import NonFiniteError
from tests.engine.test_nonfinite import run
from tests.support import settings


def stopped(tmp_path: Path, **hook: Any) -> tuple[Runner, NonFiniteError]:
    """Trains from a config whose learning rate causes NaN after iteration 6."""
    schedule = {"type": "MultiStepLR", "milestones": [4], "gamma": 1e36, "by_epoch": False}
    cfg = settings(
        tmp_path,
        by_epoch=False,
        param_scheduler=schedule,
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 10.0}},
        on_nonfinite={"interval": 1},
        default_hooks={"checkpoint": {"by_epoch": False, "interval": 3, **hook}},
    )
    runner = Runner.from_cfg(Config(cfg))
    with pytest.raises(NonFiniteError) as caught:
        runner.train()
    return runner, caught.value


def test_a_capture_is_the_last_good_checkpoint_with_facts(tmp_path: Path) -> None:
    runner, error = stopped(tmp_path)
    path = tmp_path / f"nonfinite_iter_{error.iteration}.capture"
    assert error.notes[-1] == f"footplate replay {path} shows it layer by layer"
    held = load_checkpoint(path)
    assert held.pop("capture") == {
        "iteration": error.iteration,
        "message": error.message,
        "origin": str(tmp_path / "iter_6.pth"),
        "load_from": None,
        **facts_of(runner),
    }
    assert held["meta"] == load_checkpoint(tmp_path / "iter_6.pth")["meta"]
    assert find_latest(tmp_path) == str(tmp_path / "iter_6.pth")


def test_the_config_lies_beside_it(tmp_path: Path) -> None:
    runner, error = stopped(tmp_path)
    text = Config.fromfile(tmp_path / f"nonfinite_iter_{error.iteration}.py")
    assert text.to_dict() == runner.cfg.to_dict()


def test_a_run_of_objects_leaves_none_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(NonFiniteError):
        run(tmp_path, at=7, value=math.nan)
    assert not list(tmp_path.glob("*.capture"))
    assert [each for each in caplog.messages if each.startswith("no capture")] == [
        "no capture of the failure was left: the run was built from objects, and its config is not known"
    ]


def test_a_checkpoint_that_cannot_be_resumed_is_none_to_capture(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stopped(tmp_path, save_optimizer=False)
    assert not list(tmp_path.glob("*.capture"))
    assert any(each.endswith("iter_6.pth' holds no 'optimizer' to go on from") for each in caplog.messages)
