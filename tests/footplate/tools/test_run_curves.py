import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from footplate import Runner
from footplate.tools import run_curves
from footplate.tools.run_curves import CurveHook, draw_curves
from footplate.tools.runs import read_series
from footplate.visualization.curve_plots import Panel, plot
from tests.support import settings

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

    monkeypatch.setattr(run_curves, "plot", kept)
    draw_curves(read_series(written(folder, lines)), str(folder / "out.png"))
    return {f"{panel.title}: {curve.label}": curve.points for panel in seen for curve in panel.curves}


def test_losses_metrics_and_rates_have_separate_panels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    validation = {**VAL[0], "val/loss": 2.0, "night/mIoU": 30.0, "IoU.bag": 3.0, "bbox_mAP": 0.4, "bag_precision": 0.3}
    more = {"flag": True, "mode": "train", "noise": float("nan")}
    lines = [{**line, **more} for line in TRAIN]
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


def test_only_term_of_a_loss_is_not_plotted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [{"lr": 0.1, "loss": 2.0 / step, "loss_ce": 2.0 / step, "step": step} for step in (1, 2)]
    assert [*panels_of(tmp_path, lines, monkeypatch)] == ["loss: loss", "learning rate: lr"]


@pytest.mark.parametrize("name", ["loss\n\x1b[31m\ud800", "$loss_{$", "_损失loss"])
def test_any_name_can_be_drawn(tmp_path: Path, name: str) -> None:
    draw_curves(read_series(written(tmp_path, [{"lr": 0.1, name: 1.0, "step": 1}])), str(tmp_path / "out.png"))
    assert (tmp_path / "out.png").stat().st_size > 0


@pytest.mark.parametrize("by_epoch", [True, False])
def test_a_resumed_run_is_plotted_from_its_first_iteration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_epoch: bool
) -> None:
    drawn: list[Panel] = []

    def kept(panels: list[Panel], label: str) -> Image.Image:
        drawn[:] = panels
        return Image.new("RGB", (20, 10))

    monkeypatch.setattr(run_curves, "plot", kept)
    for length in (8, 12):
        cfg = settings(
            tmp_path, by_epoch=by_epoch, default_hooks={"logger": {"interval": 1}}, custom_hooks=[CurveHook()]
        )
        cfg["train_cfg"] |= {"max_epochs": length // 4} if by_epoch else {"max_iters": length}
        runner = Runner(**cfg, resume=length == 12)
        runner.train()
        with Image.open(Path(runner.log_dir, "curves.png")) as picture:
            assert picture.size == (20, 10)
        curves = {curve.label: [x for x, _ in curve.points] for panel in drawn for curve in panel.curves}
        assert curves["loss"] == list(range(1, length + 1))
        assert curves["accuracy"] == list(range(4, length + 1, 4))
