import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from footplate.tools.report_sweep import SweepSummary, config_table, describe_importance
from footplate.tools.runs import Run

study = pytest.importorskip("footplate.tools.sweep")


def importance(values: Sequence[dict[str, Any]], scores: Sequence[float], pruned: int = 0) -> str:
    trials = [
        study.TrialInfo(number, each, "complete", score, "", "")
        for number, (each, score) in enumerate(zip(values, scores, strict=True))
    ]
    stopped = [study.TrialInfo(90 + number, {"lr": 9}, "pruned", 1.0, "", "") for number in range(pruned)]
    return describe_importance(SweepSummary("mIoU", [*trials, *stopped], ""))


def test_few_complete_trials_do_not_show_which_parameter_matters() -> None:
    text = importance([{"lr": number} for number in range(4)], [1, 2, 3, 4], pruned=9)
    assert text == "At least 5 complete trials are needed to determine which parameter matters."


def test_parameter_with_the_strongest_rank_correlation_matters_most() -> None:
    values = [{"optimizer.lr": 10.0**-number, "decay": number % 2} for number in range(6)]
    assert importance(values, [math.exp(number) for number in range(6)]) == (
        "lr matters most. Rank correlation with mIoU over 6 complete trials: lr \u22121.00, decay +0.29."
    )


def test_correlation_that_chance_may_give_is_no_importance() -> None:
    text = importance([{"lr": number} for number in (1, 2, 3, 4, 5)], [2, 1, 4, 3, 5])
    assert text == "No parameter clearly matters. Rank correlation with mIoU over 5 complete trials: lr +0.80."


def test_only_values_with_an_order_have_a_rank_correlation() -> None:
    values = [{"size": size, "depth": depth, "same": 1} for size, depth in zip("ababab", "abcabc", strict=True)]
    text = importance(values, [1, 4, 2, 5, 3, 6])
    assert text == "size matters most. Rank correlation with mIoU over 6 complete trials: size +0.88."
    unordered = importance([{"depth": each} for each in "abcabc"], [1, 2, 3, 4, 5, 6])
    assert unordered == "No parameter has a rank correlation with mIoU over 6 complete trials."


def test_config_table_has_a_row_for_each_differing_key_without_the_work_dir(make_run: Callable[..., Run]) -> None:
    runs = [make_run(name, lr=lr) for name, lr in (("a", 0.1), ("b", 0.1), ("c", 0.25))]
    for run in runs:
        assert run.config is not None
        run.config._cfg_dict["work_dir"] = run.folder.name
    assert config_table(runs) == [{"key": "lr", "values": ["0.1", "0.1", "0.25"]}]
    assert config_table([*runs[:2], runs[2]._replace(config=None)]) == []
    missing = [runs[0], runs[1]._replace(config=None), runs[2]]
    assert config_table(missing) == [{"key": "lr", "values": ["0.1", "–", "0.25"]}]
