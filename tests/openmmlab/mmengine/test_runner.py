from pathlib import Path
from typing import Any

import pytest

from footplate import Runner
from footplate.errors import ConfigError
from footplate.openmmlab.mmengine.runner import FlexibleRunner, Strategy
from tests.support import ToyModel, settings


@pytest.mark.parametrize("strategy", [None, {"type": "DDPStrategy"}])
def test_default_strategies_train(tmp_path: Path, strategy: Any) -> None:
    runner = FlexibleRunner(**{**settings(tmp_path), "model": ToyModel()}, strategy=strategy)
    runner.train()
    assert runner.iter == 12


@pytest.mark.parametrize("strategy", ["DeepSpeedStrategy", {"type": "FSDPStrategy"}, {"type": "OwnStrategy"}])
def test_other_strategies_are_refused_by_name(tmp_path: Path, strategy: Any) -> None:
    with pytest.raises(ConfigError, match="does not support 'strategy'") as caught:
        FlexibleRunner(**settings(tmp_path), strategy=strategy)
    assert caught.value.found == strategy
    with pytest.raises(ConfigError, match="does not support 'strategy'"):
        Strategy()


class OwnSaving(Runner):
    def save_checkpoint(  # type: ignore[override]
        self, out_dir: Any, filename: Any, file_client_args: Any = None, save_optimizer: bool = True,
        save_param_scheduler: bool = True, meta: Any = None, by_epoch: bool = True, backend_args: Any = None,
    ) -> None:  # fmt: skip
        super().save_checkpoint(out_dir, f"own_{filename}", file_client_args, save_optimizer, save_param_scheduler)


def test_save_checkpoint_may_be_overridden_with_the_arguments_of_mmengine(tmp_path: Path) -> None:
    OwnSaving(**settings(tmp_path)).train()
    newest = sorted(path.name for path in tmp_path.glob("*.pth"))[-1]
    assert newest.startswith("own_")
    assert (tmp_path / "last_checkpoint").read_text().endswith(newest)
