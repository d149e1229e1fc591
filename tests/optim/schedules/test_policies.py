import json
import math
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from footplate.errors import ArgumentError
from footplate.optim.schedules.policies import (
    Cosine,
    Cyclic,
    Exp,
    Fixed,
    FlatCosine,
    Inv,
    LearningRateCycle,
    Line,
    MomentumCycle,
    MomentumSteps,
    Policy,
    Polynomial,
    RestartedCosine,
    RunInfo,
    Steps,
    warmup_factor,
)
from footplate.tools.simulation import simulate

RUN = RunInfo(full=10, unit=1, epoch_length=5)


@pytest.mark.parametrize(
    ("policy", "values"),
    [
        (Fixed(run=RUN), {0: 2.0, 9: 2.0}),
        (Steps(4, 0.5, run=RUN), {3: 2.0, 4: 1.0, 8: 0.5}),
        (Steps([2, 5], 0.5, run=RUN), {1: 2.0, 2: 1.0, 5: 0.5}),
        (Steps([5, 2], 0.5, run=RUN), {2: 2.0, 4: 2.0, 5: 0.5}),  # a step takes effect only after those before it
        (Steps([], 0.5, run=RUN), {9: 2.0}),
        (Steps(1, 0.5, eta_min=0.5, run=RUN), {1: 1.0, 9: 0.5}),
        (Exp(0.5, run=RUN), {0: 2.0, 3: 0.25}),
        (Polynomial(2.0, 1.0, run=RUN), {0: 2.0, 5: 1.25}),
        (Inv(1.0, 2.0, run=RUN), {0: 2.0, 1: 0.5}),
        (Cosine(eta_min=1.0, run=RUN), {0: 2.0, 5: 1.5}),
        (Cosine(eta_min_ratio=0.25, run=RUN), {5: 1.25}),
        (Line(eta_min=0.0, run=RUN), {0: 2.0, 5: 1.0, 9: 0.2}),
        (FlatCosine(eta_min=0.0, start_percent=0.6, run=RUN), {6: 2.0, 8: 1.0}),
        (RestartedCosine([4, 6], [1, 0.5], eta_min=0.0, run=RUN), {0: 2.0, 2: 1.0, 4: 1.0, 7: 0.5}),
        (RestartedCosine([4, 6], [1, 0.5], eta_min=1.0, run=RUN), {2: 1.5, 4: 1.5, 7: 1.25}),
        (Cyclic([5, 0.5], 1, 0.4, "linear", run=RUN), {0: 2.0, 2: 6.0, 4: 10.0, 7: 5.5}),
        (Cyclic([5, 0.5], 2, 0.4, "linear", gamma=0.5, run=RUN), {2: 10.0, 5: 2.0, 7: 6.0}),
        (Cyclic(5.0, 1, 0.5, "linear", run=RUN), {5: 10.0, 9: 10.0 + 0.8 * (2 * 5e-5 - 10.0)}),
        (Cyclic(run=RUN), {2: 11.0, 4: 20.0}),
        (
            LearningRateCycle(3.0, 3, 1, total_steps=11, pct_start=4 / 11, anneal_strategy="linear", run=RUN),
            {0: 1.0, 3: 3.0, 10: 1.0},
        ),
        (MomentumCycle(0.5, 0.8, total_steps=11, pct_start=4 / 11, run=RUN), {0: 0.8, 3: 0.5, 10: 0.8}),
        (MomentumSteps(4, run=RUN), {4: 1.0, 8: 0.5}),
    ],
)
def test_regular_values(policy: Policy, values: dict[int, float]) -> None:
    assert {done: policy(0.0, 2.0, done, 10) for done in values} == pytest.approx(values)


@pytest.mark.parametrize(
    ("kind", "values"),
    [("constant", [0.25, 0.25]), ("linear", [0.25, 0.625]), ("exp", [0.25, 0.5])],
)
def test_warmup_factors(kind: str, values: list[float]) -> None:
    assert [warmup_factor(kind, 0.25, done) for done in (0, 0.5)] == pytest.approx(values)


def test_warm_up_multiplies_or_divides_the_regular_value() -> None:
    run = RUN._replace(warmup="linear", warmup_iters=4, warmup_ratio=0.5)
    assert Fixed(run=run)(0.0, 2.0, 2, 10) == 1.5
    assert Fixed(run=run._replace(divides=True))(0.0, 1.5, 2, 10) == 2.0


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: Steps(0, run=RUN), "step"),
        (lambda: Steps([3, -1], run=RUN), "step"),
        (lambda: Steps("8", run=RUN), "step"),  # type: ignore[arg-type]
        (lambda: Cosine(run=RUN), "policy"),
        (lambda: Cosine(eta_min=0.1, eta_min_ratio=0.1, run=RUN), "policy"),
        (lambda: RestartedCosine([1, 2], [1], eta_min=0.0, run=RUN), "periods"),
        (lambda: RestartedCosine([1, 2], [1, 1], eta_min=0.0, run=RUN), "periods"),
        (lambda: Cyclic(anneal_strategy="sine", run=RUN), "anneal_strategy"),
        (lambda: LearningRateCycle(1.0, total_steps=5, run=RUN), "total_steps"),
    ],
)
def test_invalid_settings_are_refused(make: Any, key: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        make()
    assert caught.value.key == key


def test_cosine_matches_its_formula() -> None:
    policy = Cosine(eta_min_ratio=1e-5, run=RUN._replace(full=160000))
    for done in (1, 1000, 159999):
        formula = 1e-6 + 0.5 * (0.1 - 1e-6) * (math.cos(math.pi * done / 160000) + 1)
        assert policy(0.0, 0.1, done, 160000) == pytest.approx(formula, rel=1e-12)


LINES = (Path(__file__).parents[2] / "data" / "vectors" / "host.jsonl").read_text().splitlines()


@pytest.mark.parametrize("vector", [json.loads(line) for line in LINES])
def test_simulated_rates_match_recorded_values(vector: dict[str, Any]) -> None:
    length = {key: vector[key] for key in ("max_epochs", "max_iters") if key in vector}
    kind = "EpochBasedRunner" if "max_epochs" in length else "IterBasedRunner"
    cfg: dict[str, Any] = {
        "optimizer": {"type": "SGD", "lr": 0.1},
        "lr_config": vector["lr_config"],
        "runner": {"type": kind, **length},
    }
    found = simulate(cfg, nn.Linear(1, 1), epoch_length=11, iters=vector["iters"])
    assert found["weight"]["lr"] == pytest.approx(vector["lr"], rel=1e-9, abs=1e-15)
