import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from footplate.data.structures import InstanceData
from footplate.errors import ArgumentError
from footplate.inference import Predictor, predict_files
from footplate.inference.predicted_files import describe_prediction
from footplate.tasks.classification.sample import ClsDataSample
from footplate.tasks.detection.sample import DetDataSample
from footplate.tasks.selfsup import SelfSupDataSample
from tests.inference.models import recipe, save_pictures, save_untrained

CLASSES = {"classes": ("shoe", "bag")}


def test_instances_above_the_score_are_listed() -> None:
    sample = DetDataSample(metainfo={"ori_shape": (20, 30)})
    sample.pred_instances = InstanceData(
        bboxes=torch.tensor([[1.0, 2.0, 3.5, 4.0], [0.0, 0.0, 1.0, 1.0]]),
        scores=torch.tensor([0.75, 0.25]),
        labels=torch.tensor([1, 5]),
        masks=torch.zeros(2, 20, 30, dtype=torch.bool),
    )
    first = {"box": [1.0, 2.0, 3.5, 4.0], "score": 0.75, "label": 1, "class": "bag"}
    assert describe_prediction(sample, CLASSES) == {"height": 20, "width": 30, "instances": [first]}
    assert [each["class"] for each in describe_prediction(sample, CLASSES, score=0.2)["instances"]] == [
        "bag",
        "class 5",
    ]
    assert len(sample.pred_instances) == 2


def test_classes_are_listed_with_their_scores() -> None:
    sample = ClsDataSample().set_pred_score([0.25, 0.75]).set_pred_label(1).set_gt_label(0)
    wanted = {"label": 1, "class": "bag", "score": 0.75, "scores": {"bag": 0.75, "shoe": 0.25}}
    assert describe_prediction(sample, CLASSES) == wanted
    assert describe_prediction(sample, CLASSES, score=0.5)["scores"] == {"bag": 0.75}


def test_features_and_other_predictions_are_listed() -> None:
    sample = SelfSupDataSample(metainfo={"img_path": "a.png"})
    sample.features = torch.tensor([0.5, 1.0])
    assert describe_prediction(sample, {}) == {"features": [0.5, 1.0]}
    assert describe_prediction(torch.tensor([1.0, 2.5]), {}) == {"prediction": [1.0, 2.5]}
    assert describe_prediction({"depth": torch.tensor(0.1)}, {}) == {"prediction": {"depth": 0.1}}


def test_files_of_detection_classification_and_features(tmp_path: Path) -> None:
    for name, key in (("fashion-det", "instances"), ("fashion-cls", "scores"), ("fashion-simclr", "features")):
        folder = tmp_path / name
        folder.mkdir()
        runner = save_untrained(recipe(name, folder / "work"), folder / "model.pth")
        dataset = runner.test_dataloader.dataset
        save_pictures(getattr(dataset, "datasets", [dataset])[0], folder / "images")
        out = folder / "images" / "out"
        for _ in range(2):  # the second run does not read the pictures of the first
            summary = predict_files(Predictor(folder / "model.pth", device="cpu"), [str(folder / "images")], str(out))
            lines = Path(summary.path).read_text().splitlines()
            assert len(lines) == summary.images == len(list((out / "pictures").glob("*.png"))) > 1
            assert f'"{key}": ' in lines[0]


@pytest.mark.parametrize("folder", ["labels", "pictures"])
def test_files_of_other_origin_are_not_overwritten(tmp_path: Path, folder: str) -> None:
    save_untrained(recipe("fashion-cls", tmp_path / "work"), tmp_path / "model.pth")
    predictor = Predictor(tmp_path / "model.pth", device="cpu")
    for name in ("images", folder):
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.new("L", (28, 28)).save(tmp_path / "data" / name / "a.png")
    before = (tmp_path / "data" / folder / "a.png").read_bytes()
    with pytest.raises(ArgumentError, match=f"might overwrite other files in '.*{folder}'"):
        predict_files(predictor, [str(tmp_path / "data" / "images")], str(tmp_path / "data"))
    assert (tmp_path / "data" / folder / "a.png").read_bytes() == before
    assert not (tmp_path / "data" / "predictions.jsonl").exists()


def test_lines_of_an_interrupted_command_are_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = save_untrained(recipe("fashion-cls", tmp_path / "work"), tmp_path / "model.pth")
    save_pictures(runner.test_dataloader.dataset, tmp_path / "images")
    predictor = Predictor(tmp_path / "model.pth", device="cpu")
    draw, calls = predictor.draw, iter(range(100))

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == 3:
            raise KeyboardInterrupt
        return draw(*args, **kwargs)

    monkeypatch.setattr(predictor, "draw", interrupted)
    with pytest.raises(KeyboardInterrupt):
        predict_files(predictor, [str(tmp_path / "images")], str(tmp_path / "out"))
    lines = (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()
    assert [Path(json.loads(line)["input"]).name for line in lines] == ["000.png", "001.png", "002.png"]
