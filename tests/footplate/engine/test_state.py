import copy
import logging
import os
import shutil
from collections import deque
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from footplate import Hook, Run, Runner
from footplate.checkpoint import load_checkpoint, save_checkpoint
from footplate.engine.values.hook import FunctionHook
from footplate.errors import CheckpointError
from footplate.optim import OptimWrapper
from tests.footplate.engine.resumed_runs import assert_same, config, run, run_until_killed, state
from tests.support import Counter, KillForTest, ToyModel, Witness, loader, settings

CASES = [
    pytest.param({"by_epoch": True}, KillForTest(8, by_epoch=True), "epoch_2.pth", id="epochs"),
    pytest.param({"by_epoch": True, "by_iteration": 3, "accumulate": 2}, KillForTest(9), "iter_9.pth", id="mid-epoch"),
    pytest.param({"by_epoch": False, "by_iteration": 4}, KillForTest(8), "iter_8.pth", id="iterations"),
    pytest.param({"by_epoch": False, "by_iteration": 5, "accumulate": 4}, KillForTest(5), "iter_5.pth", id="mid-round"),
]


@pytest.mark.parametrize(("case", "kill", "at"), CASES)
def test_killed_run_resumes_bit_exactly(tmp_path: Path, case: dict[str, Any], kill: KillForTest, at: str) -> None:
    workers = int(case["by_epoch"])
    whole = run(config(tmp_path / "whole", workers=workers, **case))
    last = os.path.basename((tmp_path / "whole/last_checkpoint").read_text())
    cfg = config(tmp_path / "killed", workers=workers, **case)
    run_until_killed(cfg, kill)
    assert (tmp_path / "killed/last_checkpoint").read_text() == str(tmp_path / "killed" / at)
    assert_same(state(tmp_path / "killed" / at), state(tmp_path / "whole" / at))
    resumed = run(cfg, resume=True)
    assert resumed.iter == whole.iter == 12
    assert_same(state(tmp_path / "killed" / last), state(tmp_path / "whole" / last))
    assert_same(resumed.model.state_dict(), whole.model.state_dict())


class _Remembering(ToyModel):
    """Adds the mean of the previous batch, which its first batch stores in an empty buffer."""

    cache: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("cache", None)

    def score(self, inputs: Tensor) -> Tensor:
        previous, self.cache = self.cache, inputs.mean(0).detach()
        return super().score(inputs if previous is None else inputs + previous)


@pytest.mark.parametrize("hooks", [[], [{"type": "EMAHook", "momentum": 0.1}]])
def test_buffer_that_the_first_batch_sets_is_resumed(tmp_path: Path, hooks: list[Any]) -> None:
    model, weights = _Remembering(), []
    resumed: dict[str, Any] = {"load_from": str(tmp_path / "a/epoch_2.pth"), "resume": True}
    for name, changes in {"a": {}, "b": resumed, "c": {}}.items():
        cfg = settings(tmp_path / name, default_hooks={"checkpoint": {"interval": 1}}, custom_hooks=hooks)
        runner = Runner(**{**cfg, "model": copy.deepcopy(model), "preflight": name == "c", **changes})
        runner.train()
        weights.append({**runner.model.state_dict(), **load_checkpoint(tmp_path / name / "epoch_3.pth")["state_dict"]})
    for other in weights[1:]:
        assert_same(other, weights[0])
    tested = Runner(**{**cfg, "model": model, "load_from": str(tmp_path / "c/epoch_3.pth")})
    tested.load_or_resume()
    assert torch.equal(tested.model.cache, weights[0]["cache"])


def test_checkpoint_saved_between_resume_and_training_continues_the_run_exactly(tmp_path: Path) -> None:
    cfg = config(tmp_path / "whole", by_epoch=True, by_iteration=3)
    whole = run(cfg)
    resumed = Runner(**{**cfg, "work_dir": str(tmp_path / "resumed")})
    resumed.resume(str(tmp_path / "whole/iter_6.pth"))
    torch.rand(3)
    copied = resumed.save_checkpoint(str(tmp_path), "copied.pth")
    again = run(cfg, resume=True, load_from=copied, work_dir=str(tmp_path / "again"))
    assert_same(again.model.state_dict(), whole.model.state_dict())


def test_run_killed_before_its_first_regular_checkpoint_resumes_from_the_best_one(tmp_path: Path) -> None:
    cfg = config(tmp_path / "whole", by_epoch=True, by_iteration=10)
    cfg["default_hooks"]["checkpoint"] |= {"out_dir": str(tmp_path / "out")}
    whole = run(cfg)
    cfg["work_dir"] = str(tmp_path / "killed")
    run_until_killed(cfg, KillForTest(6))
    best = tmp_path / "out/killed/best_accuracy_iter_4.pth"
    assert (tmp_path / "killed/last_checkpoint").read_text() == str(best)
    assert run(cfg, resume=True).iter == whole.iter == 12
    assert_same(state(tmp_path / "out/killed/iter_12.pth"), state(tmp_path / "out/whole/iter_12.pth"))
    assert (tmp_path / "killed/last_checkpoint").read_text() == str(best.with_name("iter_12.pth"))


@pytest.mark.parametrize(
    ("by_epoch", "sampler"), [(True, "DefaultSampler"), (False, "DefaultSampler"), (False, "InfiniteSampler")]
)
def test_run_resumes_from_any_iteration(tmp_path: Path, by_epoch: bool, sampler: str) -> None:
    changes = {"train_dataloader": loader(15, sampler={"type": sampler, "shuffle": True}, drop_last=True)}
    train_cfg = {"by_epoch": by_epoch, **({"max_epochs": 3} if by_epoch else {"max_iters": 9, "val_interval": 4})}
    cfg = config(tmp_path / "whole", by_epoch=by_epoch, by_iteration=1, accumulate=3)
    cfg = {**cfg, **changes, "train_cfg": train_cfg}
    whole = run(cfg)
    validated = whole.message_hub.get_scalar("val/accuracy").data[0].tolist()
    for start in (1, 4, 7):
        folder = tmp_path / f"from_{start}"
        resumed = run(cfg, resume=True, load_from=str(tmp_path / f"whole/iter_{start}.pth"), work_dir=str(folder))
        assert_same(state(folder / "iter_9.pth"), state(tmp_path / "whole/iter_9.pth"), f"from {start}: ")
        assert resumed.message_hub.get_scalar("val/accuracy").data[0].tolist() == validated


@pytest.mark.parametrize("resume", [True, "auto"])
def test_resumed_run_keeps_its_drawn_seed(tmp_path: Path, resume: Any) -> None:
    cfg = config(tmp_path / "run", by_epoch=False, by_iteration=4, randomness={})
    whole = run(cfg)
    shutil.copytree(tmp_path / "run", tmp_path / "whole")
    (tmp_path / "run/iter_12.pth").unlink()
    (tmp_path / "run/iter_8.pth").write_bytes(b"damaged")
    resumed = run(cfg, resume=resume)
    assert resumed.seed == whole.seed
    assert_same(state(tmp_path / "run/iter_12.pth"), state(tmp_path / "whole/iter_12.pth"))
    named = run(cfg, resume=True, load_from=str(tmp_path / "whole/iter_8.pth"), work_dir=str(tmp_path / "named"))
    assert named.seed == whole.seed


def test_resumed_run_keeps_its_seed_although_the_config_has_another(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = config(tmp_path / "run", by_epoch=True, by_iteration=2, randomness={"seed": 1})
    run(cfg)
    half = str(tmp_path / "run/iter_2.pth")  # in the middle of an epoch
    run(cfg, randomness={"seed": 2}, resume=True, load_from=half, work_dir=str(tmp_path / "again"))
    assert_same(state(tmp_path / "again/iter_12.pth"), state(tmp_path / "run/iter_12.pth"))
    assert "The run resumes with the checkpoint's seed 1 instead of 2." in caplog.messages
    runner = Runner.from_cfg({**copy.deepcopy(cfg), "randomness": {"seed": 2}})
    runner.resume(half)
    assert "was saved with seed 1, and this run has seed 2" in caplog.text


def test_resumed_run_repeats_the_validation_that_was_due(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cfg = config(tmp_path, by_epoch=True, by_iteration=4)
    run_until_killed(cfg, KillForTest(8))
    witness = Witness()
    caplog.clear()
    resumed = run(cfg, witness, resume=True, log_level="INFO")
    assert [at for at, _ in witness.when("before_val")] == [8, 12]
    repeated = [message for message in caplog.messages if message.startswith("Running the validation of")]
    assert repeated == ["Running the validation of epoch 2, which was due when the checkpoint was saved."]
    assert [at for at, _ in witness.when("before_train_iter")] == [8, 9, 10, 11]
    assert len(resumed.message_hub.get_scalar("val/accuracy")) == 3


class DrawsInValidation(Hook):
    def before_val(self, runner: Run) -> None:
        torch.rand(1)


@pytest.mark.parametrize("by_epoch", [True, False])
def test_training_continues_with_the_random_state_after_the_repeated_validation(tmp_path: Path, by_epoch: bool) -> None:
    cfg = config(tmp_path / "whole", by_epoch=by_epoch, by_iteration=4)
    run(cfg, DrawsInValidation())
    start = str(tmp_path / "whole/iter_8.pth")  # saved before the validation
    run(cfg, DrawsInValidation(), resume=True, load_from=start, work_dir=str(tmp_path / "resumed"))
    assert_same(state(tmp_path / "resumed/iter_12.pth"), state(tmp_path / "whole/iter_12.pth"))


@pytest.mark.parametrize("event", ["before_val", "after_val_iter", "after_val_epoch"])
def test_random_numbers_drawn_in_validation_do_not_affect_training(tmp_path: Path, event: str) -> None:
    for name, draws in (("without", 0), ("with", 1)):
        draw = FunctionHook(event, lambda runner, draws=draws: torch.rand(draws))
        run(config(tmp_path / name, by_epoch=True), draw)
    for path in sorted((tmp_path / "without").glob("*epoch*.pth")):
        assert_same(state(tmp_path / "with" / path.name)["random"], state(path)["random"])


def test_hook_state_is_saved_under_its_own_key(tmp_path: Path) -> None:
    cfg, events = config(tmp_path, by_epoch=True), ("after_train_iter", "after_val_iter")
    run(cfg, *map(Counter, events))
    (tmp_path / "epoch_3.pth").unlink()
    again = [*map(Counter, events)]
    run(cfg, *again, resume=True)
    assert [each.counts for each in again] == [{"after_train_iter": 12}, {"after_val_iter": 6}]
    saved = torch.load(tmp_path / "epoch_3.pth", weights_only=True)["run"]["hooks"]
    assert [saved["Counter"], saved["Counter#2"]] == [each.counts for each in again]


def test_state_of_a_removed_hook_is_not_given_to_another(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cfg, events = config(tmp_path, by_epoch=True), ("after_train_iter", "after_val_iter")
    run(cfg, *map(Counter, events))
    (tmp_path / "epoch_3.pth").unlink()
    left = Counter(events[1])
    run(cfg, left, resume=True)
    assert left.counts == {"after_val_iter": 4}  # of the validations after epochs 2 and 3
    assert "The checkpoint was saved with more hooks of class Counter" in caplog.text


@pytest.mark.parametrize("schedule", [None, {"type": "PolyLR", "power": 1.0, "by_epoch": True, "end": 3}])
def test_resumed_run_takes_the_settings_of_the_config(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, schedule: Any
) -> None:
    def rates(rate: float, **changes: Any) -> list[float]:
        cfg = {**config(tmp_path, by_epoch=True), "param_scheduler": schedule}
        cfg["optim_wrapper"]["optimizer"].update(lr=rate, weight_decay=rate / 10)
        runner = Runner.from_cfg(cfg, **changes)
        runner.train()
        assert {group["weight_decay"] for group in runner.optim_wrapper.param_groups} == {rate / 10}
        return [row["lr"] for row in runner.history]

    before = rates(0.25)
    (tmp_path / "epoch_3.pth").unlink()
    with caplog.at_level(logging.INFO, "footplate"):
        taken = rates(0.5, resume=True, resume_settings="take", log_level="INFO")
    assert taken == [*before[:2], 2 * before[2]]
    assert [each for each in caplog.messages if "instead of the saved" in each] == [
        "Resuming with the new lr 0.5 instead of the saved 0.25.",
        "Resuming with the new weight_decay 0.05 instead of the saved 0.025.",
    ]


def test_schedules_missing_in_a_checkpoint_are_moved_to_its_position(tmp_path: Path) -> None:
    cfg = config(tmp_path / "run", by_epoch=True, by_iteration=1)
    run(cfg)
    checkpoint = load_checkpoint(tmp_path / "run/iter_5.pth")
    del checkpoint["param_schedulers"]
    for group in checkpoint["optimizer"]["param_groups"]:
        group.pop("initial_lr", None)  # as saved by an engine that keeps no schedules in the optimizer
    save_checkpoint(checkpoint, tmp_path / "five.pth")
    run(cfg, resume=True, load_from=str(tmp_path / "five.pth"), work_dir=str(tmp_path / "resumed"))
    last = "iter_12.pth"
    assert_same(state(tmp_path / "resumed" / last), state(tmp_path / "run" / last))


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("optimizer", 3),
        ("message_hub", None),
        ("run.loop.data.batch_size", "x"),
        ("optimizer.state", {0: {"step": torch.tensor(1.0), "exp_avg": torch.zeros(3, 3)}}),
    ],
)
def test_invalid_checkpoint_part_is_named(tmp_path: Path, part: str, value: Any) -> None:
    cfg = config(tmp_path, by_epoch=True)
    run(cfg)
    checkpoint = load_checkpoint(tmp_path / "epoch_2.pth")
    *way, last = part.split(".")
    held: Any = checkpoint
    for step in way:
        held = held[step]
    held[last] = value
    save_checkpoint(checkpoint, tmp_path / "broken.pth")
    with pytest.raises(CheckpointError) as caught:
        run(cfg, resume=True, load_from=str(tmp_path / "broken.pth"))
    named = ".".join(part.split(".")[:2]) if part.startswith("run.") else part.split(".")[0]
    assert named in caught.value.message


class _Split(ToyModel):
    def train_step(self, data: Any, optim_wrapper: Any) -> Any:
        for wrapper in optim_wrapper.values():
            wrapper.update_params(self(data["inputs"], data["labels"], "loss")["loss"])
        return {}


@pytest.mark.parametrize(
    ("names", "rates"), [(["b"], [0.05, 0.025]), (["a"], [0.025, 0.1]), (["a", "b"], [0.025, 0.025]), ([], [0.05, 0.1])]
)
def test_schedules_are_matched_by_the_names_of_their_optimizers(
    tmp_path: Path, names: list[str], rates: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    def start(work_dir: Path, scheduled: list[str], **changes: Any) -> Runner:
        model = _Split()
        parts = {"a": model.layers[0], "b": model.layers[3]}
        optimizers = {name: torch.optim.SGD(part.parameters(), 0.1) for name, part in parts.items()}
        schedules = {name: {"type": "ExponentialLR", "gamma": 0.5} for name in scheduled}
        cfg = settings(work_dir, model=model, param_scheduler=schedules, **changes)
        runner = Runner(**{**cfg, "optim_wrapper": optimizers})
        runner.train()
        return runner

    start(tmp_path / "run", ["a"])
    resumed = start(tmp_path / "resumed", names, resume=True, load_from=str(tmp_path / "run/epoch_1.pth"))
    assert [part.param_groups[0]["lr"] for part in resumed.optim_wrapper.parts.values()] == pytest.approx(rates)
    assert any("differ from those in the checkpoint" in each for each in caplog.messages) == (names != ["a"])


_STEPS = {"type": "StepLR", "step_size": 3, "gamma": 0.5, "by_epoch": False}
_WARMUP = {"type": "LinearLR", "start_factor": 0.1, "end": 8, "by_epoch": False}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([], [_STEPS, _WARMUP]),
        ([_STEPS, _WARMUP], [_WARMUP, _STEPS]),
    ],
)
def test_different_schedules_continue_from_the_position(
    tmp_path: Path, before: Any, after: Any, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = config(tmp_path / "run", by_epoch=False, by_iteration=5)
    whole = run(cfg, work_dir=str(tmp_path / "whole"), param_scheduler=after)
    run(cfg, param_scheduler=before)
    for late in ("iter_10.pth", "iter_12.pth"):
        (tmp_path / "run" / late).unlink()
    resumed = run(cfg, param_scheduler=after, resume=True)
    assert any(each.startswith("The schedules in the config") for each in caplog.messages)
    read = [each.message_hub.state_dict()["log_scalars"]["train/lr"]["values"].tolist() for each in (resumed, whole)]
    assert read[0][5:] == read[1][5:]
    found = [[{**group, "params": 0} for group in each.optim_wrapper.param_groups] for each in (resumed, whole)]
    assert found[0] == found[1]


@pytest.mark.parametrize("batch_size", [2, 8])
def test_schedules_follow_a_new_batch_size(tmp_path: Path, batch_size: int, caplog: pytest.LogCaptureFixture) -> None:
    cosine = {"type": "CosineAnnealingLR", "eta_min": 0.0, "convert_to_iter_based": True}
    cfg = {**config(tmp_path / "run", by_epoch=True), "param_scheduler": [cosine, _BY_EPOCH]}
    resized = {**cfg, "train_dataloader": loader(batch_size=batch_size)}
    whole = run(resized, work_dir=str(tmp_path / "whole"))
    run(cfg)
    (tmp_path / "run/epoch_3.pth").unlink()
    resumed = run(resized, resume=True)
    length = 16 // batch_size
    read = [each.message_hub.state_dict()["log_scalars"]["train/lr"]["values"].tolist() for each in (resumed, whole)]
    assert read[0][-length:] == read[1][-length:]
    names = "CosineAnnealingLR, ExponentialLR"
    message = f"({names}, at iteration {2 * length}) differ from those in the checkpoint ({names}, at iteration 8)"
    assert any(message in line for line in caplog.messages)


@pytest.mark.parametrize("validates", [False, True])
def test_history_has_a_row_per_epoch_after_a_larger_batch_size(tmp_path: Path, validates: bool) -> None:
    cfg = {**config(tmp_path, by_epoch=True), "default_hooks": {"checkpoint": {"interval": 1}}}
    if not validates:
        cfg |= dict.fromkeys(["val_dataloader", "val_evaluator", "val_cfg"])
    run(cfg)
    (tmp_path / "epoch_3.pth").unlink()
    resumed = run({**cfg, "train_dataloader": loader(batch_size=8)}, resume=True)
    assert [(row["epoch"], row["iter"]) for row in resumed.history] == [(1, 4), (2, 8), (3, 6)]


def test_reductions_on_a_plateau_survive_a_new_batch_size(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plateau = {"type": "ReduceOnPlateauLR", "monitor": "accuracy", "rule": "less", "patience": 0, "threshold": 1e9}
    warmup = {"type": "LinearLR", "start_factor": 0.1, "end": 3, "by_epoch": False}
    cfg = {**config(tmp_path, by_epoch=True), "param_scheduler": [warmup, plateau]}
    rates = [row["lr"] for row in run(cfg).history]
    (tmp_path / "epoch_3.pth").unlink()
    resumed = run({**cfg, "train_dataloader": loader(batch_size=2)}, resume=True)
    assert resumed.history[-1]["lr"] == rates[-1] == pytest.approx(rates[0] / 10)
    assert "restart" not in caplog.text
    run({**cfg, "param_scheduler": [plateau]}, resume=True)
    assert "Schedules that monitor a metric restart from their initial state." in caplog.text


_BY_EPOCH = {"type": "ExponentialLR", "gamma": 0.7}


@pytest.mark.parametrize(
    "schedules",
    [
        [{"type": "MultiStepLR", "milestones": [1, 2], "gamma": 0.3}],
        [{"type": "CosineAnnealingLR", "T_max": 5, "eta_min": 0.001, "convert_to_iter_based": True}],
        [_BY_EPOCH, _STEPS, {"type": "ExponentialMomentum", "gamma": 0.9, "by_epoch": False}],
    ],
)
def test_run_extended_past_its_end_equals_an_uninterrupted_run(tmp_path: Path, schedules: Any) -> None:
    cfg = config(tmp_path / "run", by_epoch=True)
    run(cfg, work_dir=str(tmp_path / "whole"), param_scheduler=schedules)
    short = {**cfg["train_cfg"], "max_epochs": 2}
    run(cfg, param_scheduler=schedules, train_cfg=short)
    run(cfg, param_scheduler=schedules, resume=True)
    assert_same(state(tmp_path / "run/epoch_3.pth"), state(tmp_path / "whole/epoch_3.pth"))


@pytest.mark.parametrize(("iteration", "first"), [(8, 8), (10, 10), (12, 12), (6, 8), (20, 8)])
def test_checkpoint_of_another_engine_is_partially_resumed(tmp_path: Path, iteration: int, first: int) -> None:
    """If its epochs must have another length, the run continues at the start of an epoch."""
    whole = run(config(tmp_path / "whole", by_epoch=True))
    read = torch.load(tmp_path / "whole/epoch_2.pth", weights_only=True)
    (tmp_path / "other").mkdir()
    foreign = {key: read[key] for key in ("state_dict", "optimizer", "param_schedulers")}
    torch.save({**foreign, "meta": {"epoch": 2, "iter": iteration}, "message_hub": {}}, tmp_path / "other/epoch_2.pth")
    path = str(tmp_path / "other/epoch_2.pth")
    witness = Witness()
    resumed = run(config(tmp_path / "other", by_epoch=True), witness, resume=True, load_from=path)
    assert [at for at, _ in witness.when("before_train_iter")] == [*range(first, 12)]
    assert (resumed.iter, resumed.epoch) == (12, 3)
    names = set(dict(whole.model.named_parameters()))
    assert set(torch.load(tmp_path / "other/epoch_3.pth", weights_only=True)["state_dict"]) == names


def test_optimizer_state_that_cannot_be_saved_ends_the_run_at_the_first_save(tmp_path: Path) -> None:
    class Recent(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            for parameter in self.param_groups[0]["params"]:
                self.state[parameter]["recent"] = deque([parameter.grad])
            return super().step(closure)

    model = ToyModel()
    wrapper = OptimWrapper(Recent(model.parameters(), lr=0.1))
    runner = Runner(**settings(tmp_path, model=model, optim_wrapper=wrapper, preflight=True))
    with pytest.raises(CheckpointError, match="cannot be resumed, because the optimizer state .* 'deque'"):
        runner.train()


def test_second_attempt_loads_weights_that_were_missing(tmp_path: Path) -> None:
    """In a notebook, users call `train` again after they have corrected the path."""
    path = tmp_path / "late.pth"
    runner = Runner(**settings(tmp_path / "run", load_from=str(path)))
    with pytest.raises(CheckpointError):
        runner.train()
    wanted = {name: torch.full_like(value, 3) for name, value in runner.model.state_dict().items()}
    save_checkpoint({"state_dict": wanted}, path)
    runner.load_or_resume()
    assert all(torch.equal(value, wanted[name]) for name, value in runner.model.state_dict().items())


def test_schedules_of_a_run_saved_before_the_end_of_an_epoch_step_once(tmp_path: Path) -> None:
    """The checkpoint of the last iteration of an epoch is older than the hooks that step schedules after it."""
    cfg = settings(
        tmp_path,
        train_cfg={"by_epoch": True, "max_epochs": 4},
        param_scheduler={"type": "ExponentialLR", "gamma": 0.5, "by_epoch": True},
        default_hooks={"checkpoint": {"interval": 4, "by_epoch": False}},
    )
    Runner(**cfg).train()
    found: list[float] = []
    for iteration in (4, 8):
        changes = {"load_from": str(tmp_path / f"iter_{iteration}.pth"), "resume": True, "resume_settings": "take"}
        runner = Runner(**{**cfg, **changes})
        runner.on("before_train_epoch", lambda runner: found.append(runner.optim_wrapper.get_lr()["lr"][0]))
        runner.train()
    # With the hooks of an epoch's end, which come after the checkpoint, training begins at its last iteration.
    assert found == pytest.approx([0.1, 0.05, 0.025, 0.0125, 0.05, 0.025, 0.0125])


@pytest.mark.parametrize("best", [2, 6, 9])
def test_rows_of_the_history_follow_dynamic_intervals_after_a_resume(tmp_path: Path, best: int) -> None:
    """The best checkpoint is saved after the validation, so the resumed run does not decide on it again."""

    def train(folder: Path, **arguments: Any) -> list[tuple[float, float]]:
        model = torch.nn.Linear(1, 1)
        batches = [torch.full((2, 1), float(index)) for index in range(12)]
        runner = Runner(
            model,
            folder,
            batches,
            batches[:2],
            max_iters=12,
            training_step=lambda model, batch: model(batch).square().mean(),
            validation_step=lambda model, batch: {"error": abs(runner.iter - best)},
            optim_wrapper=torch.optim.SGD(model.parameters(), lr=0.0),
            train_cfg={"val_interval": 2, "dynamic_intervals": [(5, 3)]},
            default_hooks={"checkpoint": {"by_epoch": False, "interval": 5, "save_best": "error", "rule": "less"}},
            preflight=False,
            **arguments,
        )
        return [(row["iter"], row["loss"]) for row in runner.train()]

    expected = train(tmp_path)
    assert [iteration for iteration, _ in expected] == [2, 4, 6, 9, 12]
    (path,) = tmp_path.glob(f"best_*_iter_{best}.pth")
    assert train(tmp_path / "resumed", load_from=str(path), resume=True) == expected
