from pathlib import Path
from typing import Any

import pytest
import torch

from footplate import Hook, Runner
from footplate.errors import ArgumentError
from footplate.hooks import GradientNormHook
from tests.support import ToyModel, settings


class Steps(Hook):
    """Records the norms of both layers at each step, and the number of function calls before a step."""

    def __init__(self) -> None:
        self.norms: list[tuple[float, float]] = []
        self.watchers: list[int] = []

    def before_train(self, runner: Any) -> None:
        def look(optimizer: Any, *_: Any) -> None:
            self.norms.append(tuple(self._norm(runner.model.layers[at]) for at in (0, 3)))
            self.watchers.append(len(optimizer._optimizer_step_pre_hooks) - 1)

        runner.optim_wrapper.optimizer.register_step_pre_hook(look)

    def _norm(self, layer: Any) -> Any:
        return float(torch.cat([each.grad.flatten() for each in layer.parameters()]).norm())


def run(tmp_path: Path, *, wrapper: dict[str, Any] | None = None, **hook: Any) -> tuple[Any, Steps]:
    steps = Steps()
    cfg = settings(tmp_path, model=ToyModel(), custom_hooks=[{"type": "GradientNormHook", **hook}, steps])
    cfg["optim_wrapper"].update(wrapper or {})
    runner = Runner(**cfg)
    runner.train()
    return runner.message_hub, steps


def recorded(hub: Any, group: str) -> list[float]:
    return [float(each) for each in hub.get_scalar(f"train/grad_norm/{group}").data[0]]


def test_norms_of_the_groups_at_the_interval(tmp_path: Path) -> None:
    hub, steps = run(tmp_path, interval=4, groups={"first": r"layers\.0", "last": r"layers\.3"})
    at = [3, 7, 11]
    assert recorded(hub, "first") == pytest.approx([steps.norms[each][0] for each in at], rel=1e-6)
    assert recorded(hub, "last") == pytest.approx([steps.norms[each][1] for each in at], rel=1e-6)
    assert [each for each, watchers in enumerate(steps.watchers) if watchers] == at


def test_each_child_is_a_group_by_default(tmp_path: Path) -> None:
    hub, steps = run(tmp_path, interval=12)
    first, last = steps.norms[11]
    assert recorded(hub, "layers") == pytest.approx([(first**2 + last**2) ** 0.5], rel=1e-6)


def test_the_step_is_waited_for_while_gradients_are_summed(tmp_path: Path) -> None:
    hub, steps = run(tmp_path, wrapper={"accumulative_counts": 3}, interval=4, groups={"first": r"layers\.0"})
    # The interval is due at iterations 4, 8 and 12; the next optimizer steps are those of iterations 6, 9 and 12.
    assert recorded(hub, "first") == pytest.approx([steps.norms[each][0] for each in (1, 2, 3)], rel=1e-6)


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="interval"):
        GradientNormHook(interval=0)
    with pytest.raises(ArgumentError, match="no regular expression") as caught:
        GradientNormHook(groups={"first": "("})
    assert caught.value.key == "groups.first"
    with pytest.raises(ArgumentError, match="no parameter belongs to the group") as caught:
        run(tmp_path, groups={"neck": "neck"})
    assert caught.value.key == "groups.neck"
