import re
from pathlib import Path
from typing import Any

import pytest

from footplate import Hook, Runner
from footplate.distributed import unwrap_model
from footplate.engine.control import hook_list
from footplate.engine.control.hook_list import DEFAULT_HOOKS, build_hooks
from footplate.errors import ArgumentError, BuildError, UnknownNameError
from footplate.hooks import CheckpointHook, LoggerHook
from tests.footplate.distributed.conftest import OnRanks, on_ranks  # noqa: F401 - a fixture
from tests.support import loader, settings

TABLE = [
    ("RuntimeInfoHook", "VERY_HIGH"),
    ("IterTimerHook", "NORMAL"),
    ("DistSamplerSeedHook", "NORMAL"),
    ("LoggerHook", "BELOW_NORMAL"),
    ("ParamSchedulerHook", "LOW"),
    ("CheckpointHook", "VERY_LOW"),
]


def listed(hooks: Any) -> list[tuple[str, int | str]]:
    return [(type(hook).__name__, hook.priority) for hook in hooks]


def test_default_hooks_and_their_priorities(tmp_path: Path) -> None:
    table = re.findall(r"\| `(\w+)` \| (\w+)", str(hook_list.__doc__))
    assert table == listed(Runner(**settings(tmp_path)).hooks)
    assert listed(build_hooks(None, None)) == listed(build_hooks({}, [])) == TABLE
    assert list(DEFAULT_HOOKS) == ["runtime_info", "timer", "sampler_seed", "logger", "param_scheduler", "checkpoint"]


def test_entry_without_type_keeps_the_class_and_none_removes_it() -> None:
    changes = {"logger": {"interval": 50, "log_metric_by_epoch": False}, "checkpoint": None, "timer": None}
    hooks = build_hooks(changes, None)
    assert [name for name, _ in listed(hooks)] == [
        name for name, _ in TABLE if name not in ("CheckpointHook", "IterTimerHook")
    ]
    logger = next(hook for hook in hooks if isinstance(hook, LoggerHook))
    assert (logger.interval, logger.log_metric_by_epoch) == (50, False)
    assert DEFAULT_HOOKS["logger"] == {"type": "LoggerHook"}


def test_entry_may_be_another_class_an_object_or_a_new_hook() -> None:
    saver = CheckpointHook(interval=3)
    changes = {"timer": {"type": "Witness", "priority": 31}, "checkpoint": saver, "seen": {"type": "Witness"}}
    hooks = build_hooks(changes, None)
    assert listed(hooks)[:3] == [("Witness", "HIGHEST"), ("RuntimeInfoHook", "VERY_HIGH"), ("Witness", 31)]
    assert saver in hooks
    assert "IterTimerHook" not in dict(listed(hooks))


def test_custom_hooks_come_after_default_hooks_of_equal_priority() -> None:
    class Own(Hook):
        pass

    hooks = build_hooks(None, [Own(), {"type": "Witness", "priority": "LOW"}])
    assert [name for name, _ in listed(hooks)] == [
        *["RuntimeInfoHook", "IterTimerHook", "DistSamplerSeedHook", "Own", "LoggerHook", "ParamSchedulerHook"],
        *["Witness", "CheckpointHook"],
    ]


@pytest.mark.parametrize(
    ("default_hooks", "custom_hooks", "kind", "key", "near"),
    [
        ({"loger": {"interval": 3}}, None, BuildError, "default_hooks.loger", "logger"),
        ({"runtime_info": None}, None, BuildError, "default_hooks.runtime_info", None),
        ({"logger": {"interval": -3}}, None, ArgumentError, "default_hooks.logger.interval", None),
    ],
)
def test_invalid_hook_raises_with_its_key(
    default_hooks: Any, custom_hooks: Any, kind: Any, key: str, near: str | None
) -> None:
    with pytest.raises(kind) as caught:
        build_hooks(default_hooks, custom_hooks)
    assert (caught.value.key, caught.value.suggestion) == (key, near)


def test_visualizer_writes_to_the_log_folder(tmp_path: Path) -> None:
    runner = Runner(**settings(tmp_path, visualizer={"vis_backends": [{"type": "LocalVisBackend"}]}))
    runner.visualizer.add_scalar("loss", 1.0)
    runner.folder.create()
    assert Path(runner.log_dir, "vis_data/scalars.json").exists()
    elsewhere = {"type": "Visualizer", "name": "own", "save_dir": "elsewhere"}
    runner = Runner(**settings(tmp_path, visualizer={**elsewhere, "vis_backends": [{"type": "LocalVisBackend"}]}))
    runner.visualizer.add_scalar("loss", 1.0)
    assert runner.visualizer.instance_name == "own"
    assert Path(runner.work_dir, "elsewhere/vis_data/scalars.json").exists()


@pytest.mark.parametrize(
    ("section", "value", "key"),
    [
        ("param_scheduler", [{"type": "LinearLR", "start": 0.1}], "param_scheduler[0].start"),
        ("train_dataloader", {**loader(), "sampler": {"type": "DefaultSampler", "s": 1}}, "train_dataloader.sampler.s"),
        ("custom_hooks", [{"type": "EMAHook", "ema_type": "Swa"}], "custom_hooks[0].ema_type"),
    ],
)
def test_errors_have_the_whole_key_path(tmp_path: Path, section: str, value: Any, key: str) -> None:
    with pytest.raises((BuildError, UnknownNameError, ArgumentError)) as caught:
        Runner(**{**settings(tmp_path / "work"), section: value}).train()
    assert caught.value.key == key
    assert not (tmp_path / "work").exists()


def trained(folder: Path, size: int, batch_size: int) -> tuple[int, list[float]]:
    sampler = {"type": "DefaultSampler", "shuffle": True, "round_up": False}
    data = loader(size, sampler=sampler, batch_size=batch_size)
    runner = Runner(**settings(folder, train_dataloader=data, default_hooks={"checkpoint": None}))
    runner.train()
    weights = unwrap_model(runner.model).parameters()
    return runner.iter, [value for each in weights for value in each.detach().flatten().tolist()]


@pytest.mark.parametrize(
    ("size", "batch_size"),
    [(9, 4), (1, 2)],
    ids=["a rank without a last batch", "a rank without samples"],
)
def test_two_processes_with_uneven_batches_end_together(
    tmp_path: Path,
    on_ranks: OnRanks,  # noqa: F811
    size: int,
    batch_size: int,
) -> None:
    first, second = on_ranks(2, trained, tmp_path, size, batch_size)
    assert first == second
    assert first[0] == 3 * -(-size // (2 * batch_size))
    assert "With round_up=False, the last batches" in next(tmp_path.glob("*/*.log")).read_text()
