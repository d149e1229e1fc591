import pytest

from footplate.errors import ArgumentError, UnknownNameError
from footplate.tools.explain_loops import explain_hooks, explain_loops, hooks_as_data, loops_as_data, order_of_hooks
from tests.footplate.tools.conftest import Write


def test_every_event_of_a_run_has_a_line(write: Write) -> None:
    assert explain_loops(loops_as_data(write())) == (
        "train       EpochBasedTrainLoop: 6 epochs of 5 iterations, 30 in total, batches of 2, 0 workers\n"
        "val         ValLoop: IoUMetric after epoch 4, 6 (2 times)\n"
        "log         every 10 iterations\n"
        "checkpoint  every 2 epochs (epoch_{}.pth), keeping the last 3, best by mIoU\n"
        "schedule    MultiStepLR: epoch 0 to the end\n"
    )


def test_unknown_lengths_are_shown_as_unknown(write: Write) -> None:
    cfg = write("train_dataloader = dict(dataset=dict(type='CityscapesDatasetThatIsNotHere'))")
    assert "6 epochs of unknown length" in explain_loops(loops_as_data(cfg))
    assert loops_as_data(cfg, length_of_epoch=3)["train"]["iterations"] == 18
    with pytest.raises(ArgumentError, match="max_epochs must be an integer"):
        loops_as_data(write("train_cfg = dict(max_epochs='6')"))


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
def test_metrics_are_found_in_every_form_of_an_evaluator(write: Write, evaluator: str, shown: str) -> None:
    assert shown in explain_loops(loops_as_data(write(f"val_evaluator = {evaluator}")))


def test_hooks_are_in_the_order_of_their_priorities(write: Write) -> None:
    cfg = write("custom_hooks = [dict(type='EMAHook', priority='HIGH'), dict(type='EmptyCacheHook', priority=77)]")
    text = explain_hooks(*order_of_hooks(cfg))
    line = next(line for line in text.splitlines() if line.startswith("  after_train_epoch"))
    assert line.split(maxsplit=1)[1] == (
        "RuntimeInfoHook (VERY_HIGH), ParamSchedulerHook (LOW), EmptyCacheHook (77), CheckpointHook (last)"
    )
    acting = hooks_as_data(*order_of_hooks(cfg))["events"]["after_train_epoch"]
    assert acting[2] == {"hook": "EmptyCacheHook", "priority": "77"}


def test_hooks_of_missing_packages_are_listed(write: Write) -> None:
    cfg = write("custom_hooks = [dict(type='mmyolo.SomethingElseAltogether')]")
    assert explain_hooks(*order_of_hooks(cfg)).endswith("not found, so not shown: mmyolo.SomethingElseAltogether\n")
    assert hooks_as_data(*order_of_hooks(cfg))["not_installed"] == ["mmyolo.SomethingElseAltogether"]


def test_likely_typo_in_a_hook_name_is_an_error(write: Write) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'EMAHook'"):
        explain_hooks(*order_of_hooks(write("custom_hooks = [dict(type='EMAHok')]")))
