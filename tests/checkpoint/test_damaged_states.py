import contextlib
import logging
import math
import shutil
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from footplate import Runner
from footplate.checkpoint import (
    find_latest,
    list_candidates,
    load_checkpoint,
    save_checkpoint,
    verify,
)
from footplate.errors import FootplateError
from footplate.tools.checkpoint_contents import read_contents
from footplate.tools.checkpoint_conversion import average_weights, consolidate, export_weights, shard
from tests.checkpoint.damaged_states import ITERATIONS, Damage, config, damaged, damages, example, write

_KERNELS = (".capturable = ", ".foreach = ", ".fused = ")  # torch itself refuses kernels that the device lacks


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    level = logging.getLogger("footplate").level
    found = example(tmp_path_factory.mktemp("example"))
    logging.getLogger("footplate").setLevel(level)  # the level that the run set would affect later tests
    return found


def _resume(folder: Path, bad: Path) -> None:
    runner = Runner.from_cfg(config(folder, resume=True))
    runner.train()
    weights = [each for each in runner.model.state_dict().values() if isinstance(each, torch.Tensor)]
    assert (runner.iter, runner.epoch) == (ITERATIONS, 3)
    assert all(bool(each.isfinite().all()) for each in weights)
    assert all(0 <= rate < math.inf for rate in runner.optim_wrapper.get_lr()["lr"])


def _load_from(folder: Path, bad: Path) -> None:
    Runner.from_cfg(config(folder / "new", load_from=str(bad))).load_or_resume()


def _average(folder: Path, bad: Path) -> None:
    save_checkpoint({"state_dict": average_weights([bad, bad])}, folder / "mean.pth")


def _export(folder: Path, bad: Path) -> None:
    export_weights(bad, folder / "bare.pth", layout="mmengine")
    load_checkpoint(folder / "bare.pth")


def _shard(folder: Path, bad: Path) -> None:
    shard(bad, folder / "parts.sharded", 2)
    load_checkpoint(folder / "parts.sharded")
    consolidate(folder / "parts.sharded", folder / "joined.pth")


_USES: dict[str, Callable[[Path, Path], Any]] = {
    "find": lambda folder, bad: (list_candidates(folder), find_latest(folder)),
    "verify": lambda folder, bad: verify(bad),
    "show": lambda folder, bad: read_contents(bad),
    "average": _average,
    "export": _export,
    "shard": _shard,
    "load": _load_from,
    "resume": _resume,
}


def wrongs(content: dict[str, Any], damage: Damage, folder: Path, *, sealed: bool) -> list[str]:
    """Returns how a damaged checkpoint fails, if the run neither succeeds nor ends with a footplate error."""
    found = []
    for use, function in _USES.items():
        shutil.rmtree(folder, ignore_errors=True)
        bad = folder / "iter_5.pth"
        write(damaged(content, damage), bad, sealed=sealed)
        try:
            with contextlib.suppress(FootplateError):
                function(folder, bad)
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            shown = f"{type(error).__name__}: {str(error)[:120]} ({place.filename.split('/')[-1]}:{place.lineno})"
            found.append(f"{use}: {damage.name}: {shown}")
    return found


def tried(content: dict[str, Any]) -> list[Damage]:
    return [damage for damage in damages(content) if not any(key in damage.name for key in _KERNELS)]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_any_damaged_state_is_rejected_or_valid(content: dict[str, Any], tmp_path: Path) -> None:
    found = [
        wrong
        for number, each in enumerate(tried(content)[::181])
        for wrong in wrongs(content, each, tmp_path, sealed=number % 2 == 0)
    ]
    assert not found, "\n".join(found)
