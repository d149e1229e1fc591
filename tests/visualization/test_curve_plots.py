import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import footplate
from footplate.errors import DataError
from footplate.visualization import curve_plots, draw_curves
from footplate.visualization.curve_plots import Panel, PlottedCurve, plot

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

    monkeypatch.setattr(curve_plots, "plot", kept)
    draw_curves(written(folder, lines), str(folder / "out.png"))
    return {f"{panel.title}: {curve.label}": curve.points for panel in seen for curve in panel.curves}


def test_losses_metrics_and_rates_have_separate_panels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    validation = {**VAL[0], "val/loss": 2.0, "night/mIoU": 30.0, "IoU.bag": 3.0, "bbox_mAP": 0.4, "bag_precision": 0.3}
    more = {"flag": True, "mode": "train", "noise": float("nan")}
    lines = [{**line, "loss_again": line["loss"], **more} for line in TRAIN]
    assert panels_of(tmp_path, [lines[0], validation, lines[1]], monkeypatch) == {
        "loss: loss": [(10, 2.0), (20, 1.0)],
        "loss: loss_ce": [(10, 1.5), (20, 0.5)],
        "training, up to 100: acc_seg": [(10, 40.0), (20, 80.0)],
        "validation loss: loss": [(20, 2.0)],
        "validation, up to 1: share": [(20, 0.5)],
        "validation, up to 1: bbox_mAP": [(20, 0.4)],
        "validation, up to 100: mIoU": [(20, 50.0)],
        "validation: night, up to 100: night/mIoU": [(20, 30.0)],
        "gradient norm: grad_norm": [(10, 3.0), (20, 1.0)],
        "learning rate: lr": [(10, 0.1), (20, 0.0)],
    }


@pytest.mark.parametrize("name", ["loss\n\x1b[31m\ud800", "$loss_{$", "_损失loss"])
def test_any_name_can_be_drawn(tmp_path: Path, name: str) -> None:
    draw_curves(written(tmp_path, [{"lr": 0.1, name: 1.0, "step": 1}]), str(tmp_path / "out.png"))
    assert (tmp_path / "out.png").stat().st_size > 0


def test_undefined_coco_metrics_are_not_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    validation = {**VAL[0], "coco/bbox_mAP": 0.2, "coco/bbox_mAP_l": -1.0}
    labels = panels_of(tmp_path, [TRAIN[0], validation], monkeypatch)
    assert [label for label in labels if "coco" in label] == ["validation: coco, up to 1: coco/bbox_mAP"]


def test_a_file_without_scalars_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no scalars"):
        draw_curves(written(tmp_path, []), str(tmp_path / "out.png"))


def test_plotting_library_is_loaded_late() -> None:
    texts = [path.read_text(encoding="utf-8") for path in Path(footplate.__file__).parent.rglob("*.py")]
    assert not [text for text in texts if re.search(r"^(import|from) (matplotlib|cv2)", text, re.MULTILINE)]


@pytest.mark.parametrize(
    "points",
    [
        [(5, 1.0)],
        [(0, -1.7e308), (9, 1.7e308)],
        [(0, 0.0), (9, 5e-324)],
    ],
)
def test_curves_without_extent_or_beyond_limits_are_drawn(points: list[tuple[float, float]]) -> None:
    image = plot([Panel("loss", [PlottedCurve("loss", points)])], "step")
    away = np.abs(np.asarray(image).astype(int) - (0, 114, 178)).sum(axis=2)
    assert (away < 8).sum() > 5
