from pathlib import Path

from footplate.tools.report_classes import class_history
from footplate.tools.runs import PerClassResults, Run, Series


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


def test_classes_that_were_recorded_only_as_scalars_become_tables() -> None:
    points = {
        "mIoU": (4, 5),
        "IoU.T-shirt/top": (3, 4),
        "IoU.bag": (5, 6),
        "bbox_mAP": (1, 2),
        "shoe_precision": (7, 8),
    }
    series = [Series(f"day/{name}", "val", [(10.0, each[0]), (20.0, each[1])]) for name, each in points.items()]
    run = run_of()._replace(series=[*series, Series("IoU.bag", "train", [(10.0, 1.0)])])
    iou, precision = class_history([run], [10])
    assert (iou["set"], iou["metric"], iou["runs"][0]["classes"]) == ("day", "IoU", ["T-shirt/top", "bag"])
    assert (iou["runs"][0]["best"], iou["runs"][0]["values"]) == (0, [[[3, 5], [4, 6]]])
    assert (precision["metric"], precision["runs"][0]["values"]) == ("precision", [[[7], [8]]])
