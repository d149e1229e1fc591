import pytest

from footplate.engine.plan.plan import RunPlan
from footplate.errors import ArgumentError, UnknownNameError
from footplate.tools.explain_loops import describe_loops, order_of_hooks
from tests.footplate.tools.conftest import Plan


def text_of(run: RunPlan, **settings: int) -> str:
    return "".join(f"{part}: {text}\n" for part, text in describe_loops(run, order_of_hooks(run), **settings))


def test_every_event_of_a_run_has_a_line(plan: Plan) -> None:
    assert text_of(plan()) == (
        "train: EpochBasedTrainLoop: 6 epochs of 5 iterations, 30 in total, batches of 2, 0 workers\n"
        "val: ValLoop: IoUMetric after epoch 4, 6 (2 times)\n"
        "log: every 10 iterations\n"
        "checkpoint: every 2 epochs (epoch_{}.pth), keeping the last 3, best by mIoU\n"
        "schedule: MultiStepLR: epoch 0 to the end\n"
    )


def test_unknown_lengths_are_shown_as_unknown(plan: Plan) -> None:
    run = plan("train_dataloader = dict(dataset=dict(type='CityscapesDatasetThatIsNotHere'))")
    assert "6 epochs of unknown length" in text_of(run)
    assert "of 3 iterations, 18 in total" in text_of(run, length_of_epoch=3)
    with pytest.raises(ArgumentError, match="max_epochs must be an integer"):
        text_of(plan("train_cfg = dict(max_epochs='6')"))


@pytest.mark.parametrize(
    ("evaluator", "shown"),
    [
        ("dict(metrics=[dict(type='IoUMetric')])", "ValLoop: IoUMetric after"),
        (
            "dict(day=dict(type='IoUMetric'), night=[dict(type='IoUMetric')])",
            "ValLoop: day IoUMetric, night IoUMetric after",
        ),
    ],
)
def test_metrics_are_found_in_every_form_of_an_evaluator(plan: Plan, evaluator: str, shown: str) -> None:
    assert shown in text_of(plan(f"val_evaluator = {evaluator}"))


def test_hooks_are_in_the_order_of_their_priorities(plan: Plan) -> None:
    run = plan("custom_hooks = [dict(type='EMAHook', priority='HIGH'), dict(type='EmptyCacheHook', priority=77)]")
    text = order_of_hooks(run).describe()
    line = next(line for line in text.splitlines() if line.startswith("  after_train_epoch"))
    assert line.split(maxsplit=1)[1] == (
        "RuntimeInfoHook (VERY_HIGH), ParamSchedulerHook (LOW), EmptyCacheHook (77), CheckpointHook (last)"
    )
    assert dict(order_of_hooks(run).order())["after_train_epoch"][2] == ("EmptyCacheHook", "77")


def test_likely_typo_in_a_hook_name_is_an_error(plan: Plan) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'EMAHook'"):
        order_of_hooks(plan("custom_hooks = [dict(type='EMAHok')]"))
