from pathlib import Path

from footplate.tools.report_classes import class_history
from footplate.tools.runs import PerClassResults, Run


def run_of(*tables: PerClassResults) -> Run:
    return Run(Path("run"), [], None, [], None, "", list(tables), {}, [], [])


def table(step: int, *values: float | None, dataset: str = "", column: str = "IoU") -> PerClassResults:
    rows = [[f"class {number}", value] for number, value in enumerate(values)]
    return PerClassResults(dataset, "IoU", "val", step, ["class", column], rows)


def test_history_of_each_set_has_the_best_and_the_last_step() -> None:
    run = run_of(table(10, 1.0), table(20, 3.23456), table(30, None), table(10, 7.0, dataset="night"))
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


def test_many_classes_have_fewer_steps_with_the_first_the_best_and_the_last() -> None:
    run = run_of(*(table(step, *[1.5] * 1000) for step in range(500)))
    (found,) = class_history([run], [123])
    steps = found["runs"][0]["steps"]
    assert 50 <= len(steps) <= 102
    assert {0, 123, 499} <= {*steps}
    assert steps[found["runs"][0]["best"]] == 123


def test_tables_with_other_columns_than_the_last_one_are_left_out() -> None:
    run = run_of(table(10, 1.0, column="Acc"), table(20, 2.0))
    assert class_history([run], [None])[0]["runs"][0]["steps"] == [20]
