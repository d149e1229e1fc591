import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from footplate.errors import ArgumentError, DataError
from footplate.visualization import LegendEntry, arrange_panels, curves, draw_curves
from footplate.visualization.curves import Curve, Panel, _spread, plot, round_ticks


def test_panels_are_side_by_side_and_enlarged_by_an_integer() -> None:
    red, blue = [200, 0, 0], [0, 0, 200]
    left, right = np.full((100, 64, 3), red, np.uint8), np.full((100, 64, 3), blue, np.uint8)
    page = arrange_panels({"a": left, "b": right})
    assert page.dtype == np.uint8
    for color in (red, blue):
        rows, columns = np.nonzero((page == color).all(axis=2))
        # 3 is the least whole number that makes the longer side at least 256.
        assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (300, 192)
    assert np.nonzero((page == red).all(axis=2))[1].max() < np.nonzero((page == blue).all(axis=2))[1].min()


def test_a_legend_shows_every_color_below_the_panels() -> None:
    image = np.zeros((256, 256, 3), np.uint8)
    entries = [LegendEntry((200, 10 * number, 0), f"class number {number}") for number in range(12)]
    plain, page = arrange_panels({"a": image}), arrange_panels({"a": image}, entries)
    assert page.shape[1] == plain.shape[1]
    below = page[plain.shape[0] - 10 :]
    assert all((below == entry.color).all(axis=2).sum() > 50 for entry in entries)


def test_layout_has_the_boxes_of_the_panels_and_the_legend() -> None:
    images = {name: np.full((50, 40, 3), shade, np.uint8) for name, shade in (("a", 200), ("b", 90))}
    page = arrange_panels(images, [LegendEntry((1, 2, 3), "bag")])
    assert page.layout["legend"] == [["bag", 1, 2, 3]]
    for (caption, left, top, right, bottom), (name, image) in zip(page.layout["panels"], images.items(), strict=True):
        assert caption == name
        assert np.array_equal(page[top:bottom, left:right], image.repeat(6, axis=0).repeat(6, axis=1))


def test_panels_of_different_sizes_are_refused() -> None:
    with pytest.raises(ArgumentError, match="the same size"):
        arrange_panels({"a": np.zeros((4, 4, 3), np.uint8), "b": np.zeros((4, 5, 3), np.uint8)})


TRAIN = [
    {"lr": 0.1, "loss": 2.0, "loss_ce": 1.5, "acc_seg": 40.0, "grad_norm": 3.0, "time": 0.1, "iter": 10, "step": 10},
    {"lr": 0.0, "loss": 1.0, "loss_ce": 0.5, "acc_seg": 80.0, "grad_norm": 1.0, "time": 0.1, "iter": 20, "step": 20},
]


VAL = [{"mIoU": 50.0, "share": 0.5, "data_time": 0.1, "step": 20}]


def written(folder: Path, lines: list[dict[str, Any]]) -> str:
    path = folder / "scalars.json"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def panels_of(folder: Path, lines: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    seen: list[Panel] = []

    def kept(panels: list[Panel], label: str) -> Image.Image:
        seen.extend(panels)
        return plot(panels, label)

    monkeypatch.setattr(curves, "plot", kept)
    draw_curves(written(folder, lines), str(folder / "out.png"))
    return {f"{panel.title}: {curve.label}": curve.points for panel in seen for curve in panel.curves}


def test_term_that_equals_the_loss_is_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [{**line, "loss_ce": line["loss"], "night/loss_ce": line["loss"]} for line in TRAIN]
    drawn = panels_of(tmp_path, lines, monkeypatch)
    assert [name for name in drawn if name.startswith("loss")] == ["loss: loss"]


def test_losses_metrics_and_rates_have_separate_panels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert panels_of(tmp_path, [TRAIN[0], VAL[0], TRAIN[1]], monkeypatch) == {
        "loss: loss": [(10, 2.0), (20, 1.0)],
        "loss: loss_ce": [(10, 1.5), (20, 0.5)],
        "training: acc_seg": [(10, 40.0), (20, 80.0)],
        "validation, up to 100: mIoU": [(20, 50.0)],
        "validation, up to 1: share": [(20, 0.5)],
        "gradient norm: grad_norm": [(10, 3.0), (20, 1.0)],
        "learning rate: lr": [(10, 0.1), (20, 0.0)],
    }


def test_each_validation_set_has_separate_panels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{each}/m{number}" for each in ("day", "night") for number in range(9)]
    lines: list[dict[str, Any]] = [TRAIN[0], {**dict.fromkeys(names, 50.0), "step": 10}]
    found = [name for name in panels_of(tmp_path, lines, monkeypatch) if name.startswith("validation")]
    assert found[0] == "validation: day (8 of 9): day/m0"
    assert found[8:] == [f"validation: night (8 of 9): night/m{number}" for number in range(8)]


def _drawn(folder: Path, lines: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Returns title and note of each panel, and what it draws."""
    seen: dict[str, list[str]] = {}

    def kept(panels: list[Panel], label: str) -> Image.Image:
        seen.update({f"{panel.title}|{panel.note}": [curve.label for curve in panel.curves] for panel in panels})
        return plot(panels, label)

    monkeypatch.setattr(curves, "plot", kept)
    draw_curves(written(folder, lines), str(folder / "out.png"))
    return seen


def test_a_panel_shows_the_weakest_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = {"mIoU": 40.0, "aAcc": 60.0, **{f"IoU.c{number}": 10.0 * (number % 10) for number in range(10)}}
    # A class that is never found does not make percentages shares.
    metrics |= {f"Acc.c{number}": 0.0 for number in range(10)}
    assert _drawn(tmp_path, [TRAIN[0], {**metrics, "step": 10}], monkeypatch) == {
        "loss|": ["loss", "loss_ce"],
        "training|": ["acc_seg"],
        "validation|": ["mIoU", "aAcc"],
        "validation: IoU of the weakest classes (8 of 10)|not drawn: c8, c9, Acc of classes": [
            f"c{number}" for number in range(8)
        ],
        "gradient norm|": ["grad_norm"],
        "learning rate|": ["lr"],
    }


def test_classes_of_detection_are_separated_from_summaries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = {"coco/bbox_mAP": 0.4, "coco/bbox_mAP_50": 0.6, "coco/bag_precision": 0.2, "coco/a_b_precision": 0.1}
    assert _drawn(tmp_path, [{**metrics, "step": 10}], monkeypatch) == {
        "validation: coco|": ["coco/bbox_mAP", "coco/bbox_mAP_50"],
        "validation: coco: precision of classes|": ["coco/a_b", "coco/bag"],
    }


def test_validation_losses_and_metrics_have_separate_panels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = {"val/loss": 2.0, "accuracy": 50.0, "error": 1234.0, "share": 0.5, "step": 10}
    assert _drawn(tmp_path, [line], monkeypatch) == {
        "validation, up to 100|": ["accuracy"],
        "validation, up to 1|": ["share"],
        "validation, above 100|": ["error"],
        "validation: loss|": ["loss"],
    }


def test_the_total_comes_first_and_omitted_curves_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = {"lr": 0.1, **{f"d{number}.loss_cls": 1.0 for number in range(20)}, "loss_cls": 1.0, "loss": 21.0, "step": 1}
    found = _drawn(tmp_path, [line], monkeypatch)
    note = "not drawn: d6.loss_cls, d7.loss_cls, d8.loss_cls, d9.loss_cls and 10 more"
    assert found == {
        f"loss (8 of 22)|{note}": ["loss", "loss_cls", *(f"d{number}.loss_cls" for number in range(6))],
        "learning rate|": ["lr"],
    }


@pytest.mark.parametrize("name", ["loss\n\x1b[31m", "loss" * 100_000, "loss\ud800"])
def test_any_name_can_be_drawn(tmp_path: Path, name: str) -> None:
    draw_curves(written(tmp_path, [{"lr": 0.1, name: 1.0, "step": 1}]), str(tmp_path / "out.png"))
    assert (tmp_path / "out.png").stat().st_size > 0


def test_non_finite_values_leave_a_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[dict[str, Any]] = [{**TRAIN[0], "loss": float("nan")}, {**TRAIN[1], "mode": "train", "flag": True}]
    found = panels_of(tmp_path, lines, monkeypatch)
    assert found["loss: loss"] == [(20, 1.0)]
    assert not any(name.endswith((": mode", ": flag")) for name in found)


def test_a_decreasing_curve_is_drawn_downwards(tmp_path: Path) -> None:
    lines = [{"lr": 0.1, "loss": 3.0 - 0.1 * step, "step": step} for step in range(31)]
    draw_curves(written(tmp_path, lines), str(tmp_path / "out.png"))
    with Image.open(tmp_path / "out.png") as image:
        pixels = np.asarray(image).astype(int)
    blue = (np.abs(pixels[:250, 80:720] - (0, 114, 178)).sum(axis=2) < 60).nonzero()
    left, right = blue[0][blue[1] < 20].mean(), blue[0][blue[1] > 620].mean()
    assert left + 150 < right


def test_a_single_validation_is_drawn(tmp_path: Path) -> None:
    draw_curves(written(tmp_path, VAL[:1]), str(tmp_path / "out.png"))
    assert (tmp_path / "out.png").stat().st_size > 1000


@pytest.mark.parametrize(("text", "message"), [("", "no scalars"), ('{"loss": 1', "one JSON object per line")])
def test_a_file_without_scalars_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "scalars.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        draw_curves(str(path), str(tmp_path / "out.png"))


def test_no_plotting_library_is_loaded() -> None:
    code = "import sys, footplate.visualization; print('matplotlib' in sys.modules, 'cv2' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_an_incomplete_last_line_is_skipped(tmp_path: Path) -> None:
    path = Path(written(tmp_path, TRAIN))
    whole = path.read_text()
    path.write_text(whole + whole[:20])
    draw_curves(str(path), str(tmp_path / "out.png"))
    assert (tmp_path / "out.png").exists()


@pytest.mark.parametrize("text", ['{"lr": 0.1, "lo\n{"lr": 0.1, "loss": 1.0, "step": 1}\n', "[1, 2]\n", "3\n"])
def test_lines_that_are_not_objects_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "scalars.json").write_text(text)
    with pytest.raises(DataError, match="'scalars.json' must have one JSON object per line"):
        draw_curves(str(tmp_path / "scalars.json"), str(tmp_path / "out.png"))


@pytest.mark.parametrize(
    ("bounds", "most", "expected"),
    [
        ((0, 100), 5, [0, 20, 40, 60, 80, 100]),
        ((0.001, 0.0035), 3, [0.001, 0.002, 0.003]),
        ((-1.2, 1.2), 5, [-1, -0.5, 0, 0.5, 1]),
    ],
)
def test_ticks_are_round_numbers_within_the_bounds(
    bounds: tuple[float, float], most: int, expected: list[float]
) -> None:
    assert round_ticks(bounds, most) == pytest.approx(expected)


def test_labels_are_moved_apart_within_the_panel() -> None:
    spots = _spread([(10, 0), (11, 1), (98, 2), (99, 3)], gap=15, low=0, high=100)
    assert spots == [(10, 0), (25, 1), (85, 2), (100, 3)]


@pytest.mark.parametrize(
    "points",
    [
        [(5, 1.0)],
        [(0, 2.0), (9, 2.0)],
        [(0, 0.0), (1, 0.0)],
        [(0, -1e308), (5, 0.0), (9, 1e308)],
        [(0, -1.7976931348623157e308), (9, 1.7976931348623157e308)],
        [(0, 0.0), (9, 5e-324)],
        [(0, 1.0), (9, 1.0000000000000002)],
        [(-1e308, 1.0), (1e308, 2.0)],
    ],
)
def test_curves_without_extent_are_drawn(points: list[tuple[float, float]]) -> None:
    image = plot([Panel("loss", [Curve("loss", points)])], "step")
    away = np.abs(np.asarray(image).astype(int) - (0, 114, 178)).sum(axis=2)
    assert (away < 8).sum() > 5
