"""Complete runs with sharded weights or sharded checkpoints."""

import math
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from footplate import Runner
from footplate.checkpoint import find_newest, load_checkpoint, read_pointer, verify
from footplate.checkpoint.contents import read_layout
from footplate.checkpoint.serializable import gather_full_state
from footplate.checkpoint.sharded import _FolderWriter
from footplate.distributed import get_rank, unwrap_model
from footplate.errors import CheckpointError, NonFiniteError
from footplate.tools.checkpoint_conversion import consolidate
from tests.footplate.distributed.agreement import SHARDED, Case, Seen, difference, resumed, settings, trained
from tests.footplate.distributed.conftest import OnRanks
from tests.footplate.distributed.processes import on_processes
from tests.support import Points, ToyModel  # noqa: F401 - registers them

FSDP, DDP = Case("FSDP2", "AdamW"), Case("DDP", "AdamW")


def train(case: Case, folder: Path, iterations: int = 8, every: int = -1, **changes: Any) -> dict[str, Tensor]:
    checkpoint = {"by_epoch": False, "interval": every, "save_last": every > 0, **changes.pop("checkpoint", {})}
    return trained(case, str(folder), iterations, default_hooks={"checkpoint": checkpoint}, **changes)


def several(cases: list[Case], folder: Path) -> list[dict[str, Tensor]]:
    return [train(case, folder / str(number)) for number, case in enumerate(cases)]


@pytest.mark.parametrize(
    ("cases", "limit"),
    [
        ([FSDP, DDP, Case("FSDP2", "LARS", 3), Case("DDP", "SGD", 3)], 1e-12),
        ([Case("FSDP2", "SGD", sync_bn=True), Case("DDP", "SGD", sync_bn=True)], 1e-10),
    ],
)
def test_two_ranks_train_same_weights_as_one(
    tmp_path: Path, on_ranks: OnRanks, cases: list[Case], limit: float
) -> None:
    for found, case in zip(on_ranks(2, several, cases, tmp_path)[0], cases, strict=True):
        assert difference(found, train(case, tmp_path / "alone")) < limit


# The last two stop after two of three accumulation steps.
RESUMED: list[tuple[Case, dict[str, Any], str]] = [
    (FSDP, {}, "iter_5.sharded"),
    (FSDP, {"sharded": False}, "iter_5.pth"),
    (DDP, {"sharded": True}, "iter_5.sharded"),
    (Case("FSDP2", "AdamW", 3), {"sharded": True}, "iter_5.sharded"),
    (Case("DDP", "AdamW", 3), {"sharded": False}, "iter_5.pth"),
]


def _whole_and_resumed(folder: Path) -> list[tuple[dict[str, Tensor], dict[str, Tensor]]]:
    results = []
    for number, (case, checkpoint, name) in enumerate(RESUMED):
        whole = train(case, folder / str(number), every=5, checkpoint=checkpoint)
        results.append((whole, _resumed(case, folder / f"{number} resumed", folder / str(number) / name)))
    return results


def test_resume_from_sharded_checkpoint_is_bit_equal(tmp_path: Path, on_ranks: OnRanks) -> None:
    found = on_ranks(2, _whole_and_resumed, tmp_path)[0]
    for number, ((case, _, name), (whole, again)) in enumerate(zip(RESUMED, found, strict=True)):
        path = tmp_path / str(number) / name
        assert read_pointer(path.parent) == str(path.with_name(name.replace("5", "8")))
        limit = 1e-12 if case == Case("DDP", "AdamW", 3) else 0
        assert difference(again, whole) <= limit, case
        assert difference(_resumed(case, tmp_path / f"{number} alone", path), whole) < 1e-12, case
        if case.accumulation == 3:
            held = load_checkpoint(path)["optimizer"]
            assert {each.dtype for each in held["accumulated_gradients"]} == {torch.float64}


def _resumed(case: Case, folder: Path, path: Path, **changes: Any) -> dict[str, Tensor]:
    return train(case, folder, load_from=str(path), resume=True, **changes)


@pytest.mark.slow
def test_accumulation_resumes_with_other_world_size() -> None:
    found = list(resumed(Case("FSDP2", "AdamW", 3), 5, 12))
    assert [(world, same) for world, _, same in found] == [(1, True), (2, True), (3, True), (4, True)]
    assert all(apart <= 1e-12 for _, apart, _ in found)


def _seen(folder: Path, epochs: int, changes: dict[str, Any]) -> dict[int, list[int]]:
    """Trains by epochs of 60 samples and returns the samples of each iteration."""
    seen = Seen()
    cfg = settings(Case("DDP", "SGD"), str(folder), dist.get_world_size() if dist.is_initialized() else 1)
    cfg["train_dataloader"]["sampler"] = {"type": "DefaultSampler", "shuffle": True}
    cfg |= {"train_cfg": {"by_epoch": True, "max_epochs": epochs}, "param_scheduler": None, "custom_hooks": [seen]}
    cfg["launcher"] = "pytorch" if dist.is_initialized() else "none"
    Runner(**{**cfg, **changes}).train()
    return seen.of_all()


def test_resumed_run_sees_same_samples_with_other_world_size(tmp_path: Path, on_ranks: OnRanks) -> None:
    saving = {"default_hooks": {"checkpoint": {"by_epoch": False, "interval": 7, "save_last": False}}}
    whole = on_ranks(2, _seen, tmp_path / "two", 2, saving)[0]
    assert sorted(each for at in range(5, 10) for each in whole[at]) == list(range(60))
    again = {"load_from": str(tmp_path / "two/iter_7.pth"), "resume": True}
    alone = _seen(tmp_path / "one", 2, again)
    assert list(alone) == [7, 8, 9]
    for found in (alone, *on_ranks(3, _seen, tmp_path / "three", 2, again)):
        assert found == {at: whole[at] for at in (7, 8, 9)}


def _save(folder: Path) -> None:
    runner = Runner(**settings(DDP, str(folder), 2) | {"launcher": "pytorch"})
    runner.build_training()
    runner.save_checkpoint(str(folder), "own.sharded")
    if get_rank():
        next(runner.model.parameters()).data.fill_(math.nan)
    with pytest.raises(NonFiniteError):
        runner.save_checkpoint(str(folder), "nan.sharded")


def test_all_ranks_save_or_refuse_a_sharded_checkpoint_of_a_script(tmp_path: Path, on_ranks: OnRanks) -> None:
    on_ranks(2, _save, tmp_path)
    assert len(load_checkpoint(tmp_path / "own.sharded")["run"]["random_of_ranks"]) == 2


def _consolidated(folder: Path) -> list[dict[str, Tensor]]:
    weights = train(FSDP, folder, 9, every=3, checkpoint={"max_keep_ckpts": 2})
    if get_rank() == 0:
        consolidate(folder / "iter_9.sharded", folder / "whole.pth")
    dist.barrier()
    # An unsharded run loads the shards, and a sharded run loads the single file.
    places = ((DDP, folder / "iter_9.sharded"), (FSDP, folder / "whole.pth"))
    return [weights, *(_begun(case, folder / case.wrapper, path) for case, path in places)]


def test_sharded_checkpoints_are_rotated_and_consolidated(tmp_path: Path, on_ranks: OnRanks) -> None:
    weights, *begun = on_ranks(2, _consolidated, tmp_path)[0]
    assert sorted(each.name for each in tmp_path.glob("iter_*")) == ["iter_6.sharded", "iter_9.sharded"]
    assert find_newest(tmp_path) == str(tmp_path / "iter_9.sharded")
    state = load_checkpoint(tmp_path / "whole.pth")
    assert torch.equal(state["ema_state_dict"]["module.head.weight"], weights["head.weight"])
    assert torch.equal(state["state_dict"]["head.weight"], weights["average.module.head.weight"])
    assert all(torch.equal(found["head.weight"], state["state_dict"]["head.weight"]) for found in begun)


def _begun(case: Case, folder: Path, path: Path) -> dict[str, Tensor]:
    cfg = settings(case, str(folder), dist.get_world_size(), 1, load_from=str(path), custom_hooks=[])
    cfg["optim_wrapper"] = {"optimizer": {"type": "SGD", "lr": 0.0}}
    runner = Runner(**{**cfg, "param_scheduler": None})
    runner.train()
    return {
        name: each.clone() for name, each in gather_full_state(dict(unwrap_model(runner.model).state_dict())).items()
    }


def _with_validations(folder: Path) -> tuple[dict[str, Tensor], Any]:
    cfg = settings(Case("FSDP2", "AdamW"), str(folder), dist.get_world_size() if dist.is_initialized() else 1, 8)
    cfg |= {
        "model": {"type": "ToyModel"},
        "model_wrapper_cfg": {"type": "FullyShard"},  # validation leaves full parameters
        "train_dataloader": {**cfg["train_dataloader"], "dataset": {"type": "Points"}},
        "val_dataloader": {
            "batch_size": 4,
            "dataset": {"type": "Points", "size": 8},
            "collate_fn": {"type": "default_collate"},
        },
        "train_cfg": {"by_epoch": False, "max_iters": 8, "val_interval": 4},
        "val_cfg": {},
        "val_evaluator": {"type": "PointAccuracy"},
        "preflight": True,
        "custom_hooks": [{"type": "EMAHook", "momentum": 0.3}],
        "launcher": "pytorch" if dist.is_initialized() else "none",
    }
    cfg["default_hooks"] = {"checkpoint": {"by_epoch": False, "interval": 4, "save_best": "accuracy"}}
    cfg["optim_wrapper"] = {"optimizer": {"type": "SGD", "lr": 0.5}, "clip_grad": {"max_norm": 1e9}}
    runner = Runner(**cfg)
    runner.train()
    norms = runner.message_hub.scalar("train/grad_norm").current()
    return gather_full_state({key: each.clone() for key, each in runner.model.state_dict().items()}), float(norms)


def test_validation_ema_and_best_checkpoint_with_sharding(tmp_path: Path, on_ranks: OnRanks) -> None:
    weights, norm = _with_validations(tmp_path / "one")
    found, found_norm = on_ranks(2, _with_validations, tmp_path / "two")[0]
    assert difference(found, weights) < 1e-5  # float32
    assert found_norm == pytest.approx(norm, rel=1e-5)
    names = [
        sorted(each.name.partition(".")[0] for each in (tmp_path / run).glob("*_*iter_*")) for run in ("one", "two")
    ]
    assert names[0] == names[1] != []
    (best,) = (tmp_path / "two").glob("best_*")
    (same,) = (tmp_path / "one").glob("best_*")
    for key, value in load_checkpoint(same)["state_dict"].items():
        torch.testing.assert_close(load_checkpoint(best)["state_dict"][key], value)


class Shared(torch.nn.Module):
    """A plain module with a layer that has two names."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.block, self.head = (torch.nn.Linear(3, 3) for _ in range(3))
        self.alias = self.block

    def forward(self, inputs: Tensor) -> Tensor:
        out: Tensor = self.head(self.alias(self.embed(inputs)))
        return out


def _plain(folder: Path, wrapper: dict[str, Any]) -> dict[str, Tensor]:
    data: Any = [(torch.tensor([n, 1.0, 2.0]), n % 3) for n in range(16)]
    world = dist.get_world_size() if dist.is_initialized() else 1
    Runner(
        model=Shared(),
        work_dir=str(folder),
        train_dataloader=torch.utils.data.DataLoader(data, 4 // world),
        loss=torch.nn.CrossEntropyLoss(),
        train_cfg={"by_epoch": True, "max_epochs": 2},
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.1}},
        custom_hooks=[{"type": "FreezeHook", "patterns": ["alias"]}, {"type": "EMAHook", "momentum": 0.3}],
        model_wrapper_cfg=wrapper,
        launcher="pytorch" if dist.is_initialized() else "none",
    ).train()
    return _saved(folder)


def _saved(folder: Path) -> dict[str, Tensor]:
    return load_checkpoint(str(find_newest(str(folder))))["state_dict"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("wrapper", [{"type": "FullyShard"}, {"find_unused_parameters": True}])
def test_plain_module_with_a_shared_layer_is_averaged_and_frozen(
    tmp_path: Path, on_ranks: OnRanks, wrapper: dict[str, Any]
) -> None:
    alone = _plain(tmp_path / "one", {})
    on_ranks(2, _plain, tmp_path / "two", wrapper)
    found = _saved(tmp_path / "two")
    assert difference(found, alone) < 1e-6  # float32
    start = Shared().state_dict()
    assert [key for key in start if torch.equal(start[key], alone[key])] == [
        "block.weight",
        "block.bias",
        "alias.weight",
        "alias.bias",
    ]


def _before_second_write(act: Callable[[], None]) -> None:
    """Calls `act` on rank 1 before it writes its shard of the second save."""
    write = _FolderWriter.write_data

    def replacement(self: _FolderWriter, plan: Any, planner: Any) -> Any:
        if get_rank() == 1 and "iter_6" in self._folder:
            act()
        return write(self, plan, planner)

    _FolderWriter.write_data = replacement  # type: ignore[method-assign]


def _fail_on_one(folder: Path) -> list[str]:
    def fail() -> None:
        raise OSError(28, "No space left on device")

    _before_second_write(fail)
    with_errors: list[str] = []
    cfg = settings(FSDP, str(folder), 2, 9)
    cfg["default_hooks"] = {"checkpoint": {"by_epoch": False, "interval": 3, "max_keep_ckpts": 2}}
    runner = Runner(**cfg)

    def record(failure: str, error: BaseException, newest: str | None) -> None:
        with_errors.append(str(error))

    runner.saver._log_failure = record  # type: ignore[method-assign]
    runner.train()
    return with_errors


def test_failed_write_on_one_rank_fails_save(tmp_path: Path, on_ranks: OnRanks) -> None:
    for errors in on_ranks(2, _fail_on_one, tmp_path):
        assert errors == [f"cannot save '{tmp_path}/iter_6.sharded': rank 1: No space left on device"]
    assert sorted(each.name for each in tmp_path.glob("iter_*")) == ["iter_3.sharded", "iter_9.sharded"]
    assert find_newest(tmp_path) == str(tmp_path / "iter_9.sharded")


def _die_between(folder: Path) -> None:
    """Ends rank 1 after rank 0 has written its shard of the second save, before rank 1 writes its own."""

    def die() -> None:
        while not list((folder / "iter_6.sharded").glob("rank_0*.pth")):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)

    _before_second_write(die)
    train(FSDP, folder, 9, every=3)


HYBRID = {**SHARDED, "mesh": (2, 2)}


def test_save_interrupted_by_death_is_incomplete(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="exit codes"):
        on_processes(2, _die_between, tmp_path)
    written = {each.name[:6] for each in (tmp_path / "iter_6.sharded").glob("rank_*.pth")}
    assert "rank_0" in written
    assert "rank_1" not in written
    assert read_pointer(tmp_path) == find_newest(tmp_path) == str(tmp_path / "iter_3.sharded")
    with pytest.raises(CheckpointError, match=r"iter_6\.sharded' is incomplete: state\.pth is missing"):
        verify(tmp_path / "iter_6.sharded")
    assert verify(tmp_path / "iter_3.sharded").sha256


def _replicas(folder: Path) -> list[dict[str, Tensor]]:
    hybrid = partial(train, Case("FSDP2", "AdamW", 3), model_wrapper_cfg=HYBRID)
    whole = hybrid(folder / "whole", every=5)
    again = hybrid(folder / "four", load_from=str(folder / "whole/iter_5.sharded"), resume=True)
    return [train(Case("FSDP2", "LARS"), folder / "lars", model_wrapper_cfg=HYBRID), whole, again]


def test_replicas_of_shards_train_like_one_process_and_resume(tmp_path: Path, on_ranks: OnRanks) -> None:
    lars, whole, again = on_ranks(4, _replicas, tmp_path)[0]
    assert difference(lars, train(Case("DDP", "LARS"), tmp_path / "alone")) < 1e-12
    assert difference(again, whole) < 1e-12
    path = tmp_path / "whole/iter_5.sharded"  # 5 iterations are two of three accumulation steps
    verify(path)
    held = load_checkpoint(path)["state_dict"]
    stored = read_layout(str(path), "meta").tensors.values()
    size = sum(math.prod(chunk.sizes) * each.dtype.itemsize for each in stored for chunk in each.chunks)
    # Replicas are written once: weights, averages, two moments and accumulated gradients.
    assert size == 5 * 8 * sum(each.numel() for each in held.values())
    assert len(list(path.glob("rank_*.pth"))) == 4  # the replicas share the writing
    case = Case("FSDP2", "AdamW", 3)
    assert difference(_resumed(case, tmp_path / "one", path), whole) < 1e-12
    fewer = partial(_resumed, model_wrapper_cfg={**SHARDED, "mesh": None})
    assert difference(on_ranks(3, fewer, case, tmp_path / "fewer", path)[0], whole) < 1e-12
