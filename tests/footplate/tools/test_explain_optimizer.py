import pytest
from torch import nn

from footplate.errors import ArgumentError
from footplate.tools.explain_optimizer import (
    explain_params,
    explain_schedule,
    groups_of,
    schedule_of,
)
from tests.footplate.tools.conftest import TEXT, Plan


def test_values_equal_those_of_a_run(plan: Plan) -> None:
    schedule = schedule_of(plan())
    assert (schedule.length, schedule.iters) == (30, list(range(30)))  # 6 epochs of 5 batches
    rates = {len(track.parameters): track.values for track in schedule.tracks if track.field == "lr"}
    plain = max(rates)
    assert rates[plain][9:11] == pytest.approx([0.1, 0.01])
    assert rates[plain][19:21] == pytest.approx([0.01, 0.001])
    assert rates[min(rates)][0] == pytest.approx(0.01)


def test_text_has_plot_and_table_of_changing_fields_and_lines_for_constant_ones(plan: Plan) -> None:
    text = explain_schedule(schedule_of(plan()))
    assert text.startswith("schedule of 30 iterations, counted from 0; model SmallSegmentor\n")
    assert any("\u2801" <= character <= "\u28ff" for character in text)  # braille dots of the plot
    assert f"         29  {0.001:>11}  {0.0001:>11}\n" in text
    assert "weight_decay 0 throughout: " in text
    assert "\n\n\n" not in text
    assert max(len(line) for line in text.splitlines()[1:] if "tensor" not in line) <= 72


OWN_POLICY = """
model = dict(type='SmallSegmentor', num_classes=3, widths=(4, 8), depths=(1, 1))
optimizer = dict(type='SGD', lr=0.1)
lr_config = dict(policy='pow', power=2)
runner = dict(type='IterBasedRunner', max_iters=8)
data = dict(samples_per_gpu=2, train=dict(type='FashionScenes', split='train', length=10))
"""


def test_policies_of_users_and_metrics_are_reported_as_not_simulated(plan: Plan) -> None:
    plateau = "param_scheduler = dict(type='ReduceOnPlateauLR', monitor='mIoU')\n"
    for changes, kind in (({"base": OWN_POLICY}, "PowLrUpdaterHook"), ({"text": plateau}, "ReduceOnPlateauLR")):
        text = explain_schedule(schedule_of(plan(**changes)))
        assert "\nlr 0.1 at the start: " in text
        assert text.endswith(f"\nnot simulated: {kind}, which changes the values during the run\n")


def test_epoch_based_run_needs_the_epoch_length(plan: Plan) -> None:
    cfg = plan("train_dataloader = dict(dataset=dict(type='CityscapesDatasetThatIsNotHere'))")
    with pytest.raises(ArgumentError, match=r"simulate\(epoch_length=N\)") as caught:
        schedule_of(cfg)
    assert "  unknown dataset 'CityscapesDatasetThatIsNotHere'\n" in str(caught.value)
    with pytest.raises(ArgumentError, match="the length of"):
        schedule_of(plan("train_cfg = dict()"))


def test_exact_maximum_is_found_between_sampled_iterations(plan: Plan) -> None:
    length, peak = 12_345, 4115
    text = f"""
train_cfg = dict(by_epoch=False, max_iters={length})
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end={peak + 1}, by_epoch=False),
    dict(type='LinearLR', start_factor=1.0, end_factor=0.0, begin={peak + 1}, end={length + 1}, by_epoch=False),
]
"""
    schedule = schedule_of(plan(text))
    track = next(track for track in schedule.tracks if track.field == "lr")
    values = [value or 0.0 for value in track.values]
    assert schedule.iters[values.index(max(values))] == peak


@pytest.mark.parametrize("constructor", ["DefaultOptimWrapperConstructor", "DefaultOptimizerConstructor"])
def test_groups_show_settings_sizes_and_keys(plan: Plan, constructor: str) -> None:
    found = groups_of(plan(base=TEXT.replace("paramwise_cfg=", f"constructor='{constructor}', paramwise_cfg=")))
    stem, plain, norms = sorted(found.groups, key=lambda group: (group.settings["lr"], -group.settings["weight_decay"]))
    assert (stem.reasons, plain.reasons, norms.reasons) == (["custom_keys.stem"], [], ["norm_decay_mult"])
    assert stem.multipliers == pytest.approx({"lr": 0.1})
    assert norms.multipliers == {"weight_decay": 0.0}
    assert all("stem" in name for name in stem.names)
    assert plain.size == sum(p.size for p in found.groups) - stem.size - norms.size > 0
    text = explain_params(found)
    assert "SGD  lr 0.01 (x0.1), momentum 0, weight_decay 0.01" in text
    assert "set by custom_keys.stem" in text
    assert "set by the optimizer only" in text


class HalfFrozen(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(2, 2).requires_grad_(False), nn.Linear(2, 2))


def test_frozen_parameters_are_listed(plan: Plan) -> None:
    found = groups_of(plan().with_changes(model={"type": HalfFrozen}))
    assert found.frozen == ["0.weight", "0.bias"]
    assert explain_params(found).endswith("\nfrozen: 2 tensors: 0.weight, 0.bias\n")
