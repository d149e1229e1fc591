from pathlib import Path

from footplate.tools.report_curves import arrange_charts, class_history
from footplate.tools.runs import PerClassResults, Run, Series

POINTS = [(10.0, 2.0), (20.0, 1.0)]
OTHERS = [(10.0, 3.0), (20.0, 4.0)]


def run_of(**points: list[tuple[float, float]]) -> Run:
    """Returns a run with scalars by `mode__name`, in which `__` after the mode stands for a slash."""
    series = []
    for key, each in points.items():
        mode, _, name = key.partition("__")
        series.append(Series(name.replace("__", "/"), mode, each))
    return Run(Path("run"), series, None, [], None, "", [], {}, {}, [], {})


def test_training_and_validation_loss_share_a_chart_and_its_windows() -> None:
    losses = [(5.0, 4.0), *POINTS, (25.0, 9.0)]  # the last one belongs to no validation
    run = run_of(train__loss=losses, val__day__loss=OTHERS, val__night__loss=[(20.0, 5.0)])
    charts = arrange_charts([run], None, [[0]])
    assert [(curve["label"], curve["role"], curve["x"], curve["y"]) for curve in charts["loss"]["curves"]] == [
        ("training", "raw", [5, 10, 20, 25], [4, 2, 1, 9]),
        ("training", "mean", [10, 20], [3, 1]),
        ("validation: day", "", [10, 20], [3, 4]),
        ("validation: night", "", [20], [5]),
    ]
    assert [curve["role"] for curve in arrange_charts([run, run], None)["loss"]["curves"]].count("raw") == 0
    assert charts["metrics"] == []


def test_seeds_of_a_variant_are_one_curve_with_a_band() -> None:
    runs = [run_of(train__loss=[*POINTS, (30.0, 3.0)]), run_of(train__loss=POINTS), run_of(train__loss=OTHERS)]
    charts = arrange_charts(runs, None, [[0, 2], [1]])
    assert [
        (curve["run"], curve["x"], curve["y"], curve.get("low"), curve.get("high"))
        for curve in charts["loss"]["curves"]
    ] == [
        (0, [10, 20], [2.5, 2.5], [2, 1], [3, 4]),
        (1, [10, 20], [2, 1], None, None),
    ]


def run_with(*tables: PerClassResults) -> Run:
    return Run(Path("run"), [], None, [], None, "", list(tables), {}, {}, [], {})


def table(step: int, *values: float | None, dataset: str = "", column: str = "IoU") -> PerClassResults:
    rows = [[f"class {number}", value] for number, value in enumerate(values)]
    return PerClassResults(dataset, "IoU", "val", step, ["class", column], rows)


def test_history_of_each_set_has_the_best_and_the_last_step() -> None:
    run = run_with(table(10, 1.0), table(20, 3.23456), table(30, None), table(10, 7.0, dataset="night"))
    day, night = class_history([run], [20])
    assert day["runs"] == [
        {
            "run": 0,
            "steps": [10, 20, 30],
            "best": 1,
            "last": 2,
            "columns": ["IoU"],
            "classes": ["class 0"],
            "values": [[[1], [3.235], [None]]],
        }
    ]
    assert (night["set"], night["runs"][0]["best"], night["runs"][0]["values"]) == ("night", None, [[[7]]])
