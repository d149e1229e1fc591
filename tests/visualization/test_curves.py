import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from footplate.errors import DataError
from footplate.visualization import curves, draw_curves
from footplate.visualization.plotting import Panel, plot

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


def test_losses_metrics_and_rates_have_panels_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert panels_of(tmp_path, [TRAIN[0], VAL[0], TRAIN[1]], monkeypatch) == {
        "loss: loss": [(10, 2.0), (20, 1.0)],
        "loss: loss_ce": [(10, 1.5), (20, 0.5)],
        "training: acc_seg": [(10, 40.0), (20, 80.0)],
        "validation: mIoU": [(20, 50.0)],
        "validation: share": [(20, 0.5)],
        "gradient norm: grad_norm": [(10, 3.0), (20, 1.0)],
        "learning rate: lr": [(10, 0.1), (20, 0.0)],
    }


def test_each_validation_set_has_panels_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{each}/m{number}" for each in ("day", "night") for number in range(9)]
    lines: list[dict[str, Any]] = [TRAIN[0], {**dict.fromkeys(names, 50.0), "step": 10}]
    found = [name for name in panels_of(tmp_path, lines, monkeypatch) if name.startswith("validation")]
    assert found[0] == "validation: day (8 of 9): day/m0"
    assert found[8:] == [f"validation: night (8 of 9): night/m{number}" for number in range(8)]


@pytest.mark.parametrize("name", ["loss\n\x1b[31m", "loss" * 100_000, "loss\ud800"])
def test_any_name_can_be_drawn(tmp_path: Path, name: str) -> None:
    draw_curves(written(tmp_path, [{"lr": 0.1, name: 1.0, "step": 1}]), str(tmp_path / "out.png"))
    assert (tmp_path / "out.png").stat().st_size > 0


def test_values_that_are_no_numbers_leave_a_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[dict[str, Any]] = [{**TRAIN[0], "loss": float("nan")}, {**TRAIN[1], "mode": "train", "flag": True}]
    found = panels_of(tmp_path, lines, monkeypatch)
    assert found["loss: loss"] == [(20, 1.0)]
    assert not any(name.endswith((": mode", ": flag")) for name in found)


def test_the_curve_runs_from_high_to_low(tmp_path: Path) -> None:
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


@pytest.mark.parametrize(("text", "message"), [("", "no scalar"), ('{"loss": 1', "one JSON object a line")])
def test_a_file_without_scalars_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "scalars.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        draw_curves(str(path), str(tmp_path / "out.png"))


def test_no_plotting_library_is_loaded() -> None:
    code = "import sys, footplate.visualization; print('matplotlib' in sys.modules, 'cv2' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_a_last_line_that_was_not_finished_is_left_out(tmp_path: Path) -> None:
    path = Path(written(tmp_path, TRAIN))
    whole = path.read_text()
    path.write_text(whole + whole[:20])
    draw_curves(str(path), str(tmp_path / "out.png"))
    assert (tmp_path / "out.png").exists()


@pytest.mark.parametrize("text", ['{"lr": 0.1, "lo\n{"lr": 0.1, "loss": 1.0, "step": 1}\n', "[1, 2]\n", "3\n"])
def test_lines_of_another_kind_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "scalars.json").write_text(text)
    with pytest.raises(DataError, match="'scalars.json' is not one JSON object a line"):
        draw_curves(str(tmp_path / "scalars.json"), str(tmp_path / "out.png"))
