import json
from pathlib import Path
from typing import Any

import pytest

from footplate.errors import DataError
from footplate.tools.runs import read_run, read_runs

Lines = list[dict[str, Any]]


def write(path: Path, lines: Lines) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def points(path: Path, name: str, mode: str) -> list[tuple[float, float]]:
    series = read_run(path).scalars(mode).get(name)
    return series.points if series else []


def test_second_generation_run_that_counts_epochs(tmp_path: Path) -> None:
    places = ((1, 5), (2, 10), (2, 13), (3, 18))
    train: Lines = [{"lr": 0.1, "loss": 1.0, "epoch": epoch, "iter": at, "step": at} for epoch, at in places]
    file = write(tmp_path / "scalars.json", [*train, {"acc": 0.5, "step": 1}, {"acc": 0.7, "step": 2}])
    assert read_run(file).epoch_length == 7  # 13 lies in the second epoch, 18 in the third
    assert points(file, "acc", "val") == [(7, 0.5), (14, 0.7)]


def test_first_generation_run_that_counts_epochs(tmp_path: Path) -> None:
    lines: Lines = [{"env_info": "a", "seed": 0}]
    for epoch in (1, 2):
        lines += [{"mode": "train", "epoch": epoch, "iter": at, "lr": 0.1, "loss": 1.0 / at} for at in (4, 8)]
        lines.append({"mode": "val", "epoch": epoch, "iter": 500, "lr": 0.1, "bbox_mAP": 0.1 * epoch})
    write(tmp_path / "20210101_000000.log.json", lines)
    assert [at for at, _ in points(tmp_path, "loss", "train")] == [4, 8, 12, 16]
    assert points(tmp_path, "bbox_mAP", "val") == [(8, 0.1), (16, 0.2)]


def test_first_generation_run_that_counts_iterations(tmp_path: Path) -> None:
    lines: Lines = [{"mode": "train", "epoch": 1, "iter": at, "lr": 0.1, "loss": 1.0} for at in (50, 100)]
    lines += [{"mode": "val", "epoch": 1, "iter": 250, "lr": 0.1, "mIoU": 0.3}]
    lines += [{"mode": "train", "epoch": 2, "iter": at, "lr": 0.1, "loss": 1.0} for at in (150, 200)]
    file = write(tmp_path / "a.log.json", lines)
    assert [at for at, _ in points(file, "loss", "train")] == [50, 100, 150, 200]
    assert points(file, "mIoU", "val") == [(100, 0.3)]


def test_losses_before_the_first_validation_of_a_resumed_run_are_kept(tmp_path: Path) -> None:
    first: Lines = [{"lr": 0.1, "loss": float(at), "iter": at, "step": at} for at in (10, 20, 30)]
    again: Lines = [{"mIoU": 0.5, "step": 20}, {"lr": 0.1, "loss": -30.0, "iter": 30, "step": 30}]
    write(tmp_path / "20260101_000000/vis_data/scalars.json", [*first, {"mIoU": 0.4, "step": 20}])
    write(tmp_path / "20260102_000000/vis_data/scalars.json", again)
    assert points(tmp_path, "loss", "train") == [(10, 10), (20, 20), (30, -30)]
    assert points(tmp_path, "mIoU", "val") == [(20, 0.5)]


def test_images_config_environment_warnings_and_checkpoints_are_found(tmp_path: Path) -> None:
    start = tmp_path / "20260101_000000"
    write(start / "vis_data/scalars.json", [{"loss": 1.0, "step": 1}])
    (start / "vis_data/vis_image").mkdir()
    for step in (20, 3):
        (start / f"vis_data/vis_image/val_7_{step}.png").write_bytes(b"")
    (start / "vis_data/config.py").write_text("a = 1\n")
    (start / "environment.json").write_text('{"python": "3.11"}')
    line = '{"time": "t", "logger": "footplate", "level": "WARNING", "message": "careful"}\n'
    (start / "run.warnings.jsonl").write_text(f"{line}{{")
    (tmp_path / "iter_1.pth").write_bytes(b"")
    run = read_run(tmp_path)
    assert [(image.name, image.step) for image in run.images] == [("val_7", 3), ("val_7", 20)]
    assert run.config is not None
    assert (run.config.to_dict(), run.environment) == ({"a": 1}, {"python": "3.11"})
    assert read_run(start).environment == {"python": "3.11"}
    assert run.warnings == ["t - footplate - WARNING - careful"]
    assert [file.name for file in run.checkpoints] == ["iter_1.pth"]


def test_series_that_are_not_finite_at_the_end_are_named_in_a_warning(tmp_path: Path) -> None:
    nan, inf = float("nan"), float("inf")
    lines: Lines = [
        {"lr": 0.1, "loss": loss, "norm": norm, "aux": nan, "iter": at, "step": at}
        for at, loss, norm in ((10, 2.0, inf), (20, 1.0, 3.0), (30, nan, 4.0), (40, inf, 5.0))
    ]
    run = read_run(write(tmp_path / "scalars.json", [*lines, {"acc": 0.5, "step": 20}, {"acc": nan, "step": 40}]))
    assert {each.name: (each.last_nonfinite, each.ends_nonfinite) for each in run.series} == {
        "lr": (None, False),
        "loss": (40, True),
        "norm": (10, False),
        "acc": (40, True),
    }
    assert run.warnings == [
        "Scalars that stay non-finite until the end of the run: loss (train) after iteration 20, "
        "acc (val) after iteration 20, aux (train) from the start."
    ]


def test_error_for_a_folder_without_a_run(tmp_path: Path) -> None:
    for name in ("first", "second", "third", "a", "b", "c"):
        _text(tmp_path / "runs" / name / "20260101_000000/vis_data/scalars.json", '{"loss": 1, "step": 1}\n')
    with pytest.raises(DataError, match=r"/rums' does not exist") as error:
        read_run(tmp_path / "rums")
    assert error.value.suggestion == str(tmp_path / "runs")
    with pytest.raises(DataError, match=r"runs' is not a run, but it contains 6 runs") as error:
        read_run(tmp_path / "runs")
    below = ", ".join(str(tmp_path / "runs" / name) for name in ("a", "b", "c", "first", "second"))
    assert f"Pass instead: {below} and 1 more" in str(error.value)


TABLE = {"step": 20, "mode": "val", "dataset": "", "metric": "IoU", "columns": ["class", "IoU"], "rows": [["bag", 5.5]]}


def test_per_class_results_of_all_steps_are_read_and_later_ones_replace_earlier_ones(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path / name / "vis_data/scalars.json", [{"loss": 1.0, "step": 1}])
    other = {**TABLE, "dataset": "night", "metric": "bbox", "rows": [["ankle boot", None]]}
    write(tmp_path / "a/vis_data/per_class.jsonl", [TABLE, other, {**TABLE, "step": 30}])
    again = {**TABLE, "rows": [["bag", 6.5]]}
    write(tmp_path / "b/vis_data/per_class.jsonl", [again, {**other, "step": 40, "mode": "test"}])
    assert [tuple(table) for table in read_run(tmp_path).per_class] == [
        ("night", "bbox", "val", 20, ["class", "IoU"], [["ankle boot", None]]),
        ("", "IoU", "val", 20, ["class", "IoU"], [["bag", 6.5]]),
        ("", "IoU", "val", 30, ["class", "IoU"], [["bag", 5.5]]),
        ("night", "bbox", "test", 40, ["class", "IoU"], [["ankle boot", None]]),
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [('{"loss": 1, "step": "one"}', "'step' in line 1"), ('{"loss": NaN, "step": 1}', "no finite scalars in")],
)
def test_invalid_line_is_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        read_run(_text(tmp_path / "scalars.json", f"{text}\n"))


def test_incomplete_last_line_is_left_out(tmp_path: Path) -> None:
    whole = '{"loss": 1, "iter": 5, "step": 5}\n'
    assert points(_text(tmp_path / "scalars.json", whole + '{"loss": 2, "it'), "loss", "train") == [(5, 1)]
    with pytest.raises(DataError, match="line 1 of .* is not valid JSON"):
        read_run(_text(tmp_path / "scalars.json", '{"loss": 2, "it\n' + whole))


def _text(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_files_next_to_runs_are_skipped_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "a/20260101_000000/vis_data/scalars.json", [{"loss": 1.0, "step": 1}])
    (tmp_path / "report.html").touch()
    (tmp_path / "notes.txt").write_text("a")
    assert [run.folder.name for run in read_runs(sorted(map(str, tmp_path.iterdir())))] == ["a"]
    found = f"line 1 of '{tmp_path}/notes.txt' is not valid JSON"
    assert caplog.messages == [f"Skipping a path that cannot be read as a run: {found}"]
    with pytest.raises(DataError, match="is not valid JSON"):
        read_runs([str(tmp_path / "notes.txt")])
