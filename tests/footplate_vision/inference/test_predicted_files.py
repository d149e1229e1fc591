import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from footplate.data.data_element import BaseDataElement
from footplate.errors import ArgumentError, DataError
from footplate.registry import VISUALIZERS
from footplate.visualization import Visualizer
from footplate_vision.classification.data import ClsDataSample
from footplate_vision.detection.data import DetDataSample
from footplate_vision.inference import Predictor, predict_files
from footplate_vision.inference.predicted_files import describe_prediction
from footplate_vision.inference.predictor import restored_image
from footplate_vision.selfsup import SelfSupDataSample
from footplate_vision.structures import InstanceData
from tests.footplate_vision.inference.models import recipe, save_pictures, save_untrained, save_untrained_recipe
from tests.support import json_lines

CLASSES = {"classes": ("shoe", "bag")}


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint of fashion-cls without training, and pictures."""
    return save_untrained_recipe("fashion-cls", tmp_path_factory.mktemp("cls"))


@pytest.fixture
def predictor(classifier: Path) -> Predictor:
    return Predictor(classifier / "model.pth", device="cpu")


def test_instances_above_the_score_are_listed() -> None:
    sample = DetDataSample(metainfo={"ori_shape": (20, 30)})
    sample.pred_instances = InstanceData(
        bboxes=torch.tensor([[1.0, 2.0, 3.5, 4.0], [0.0, 0.0, 1.0, 1.0]]),
        scores=torch.tensor([0.75, 0.25]),
        labels=torch.tensor([1, 5]),
        masks=torch.zeros(2, 20, 30, dtype=torch.bool),
    )
    sample.pred_instances.masks[0, :, 3] = True
    first: dict[str, Any] = {"box": [1.0, 2.0, 3.5, 4.0], "score": 0.75, "label": 1, "class": "bag"}
    first["segmentation"] = {"size": [20, 30], "counts": "l1d0X`0"}
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
    assert len(describe_prediction(ClsDataSample().set_pred_score([0.1] * 9), {}, score=0)["scores"]) == 9
    logits = ClsDataSample().set_pred_score([-0.25, 0.75])
    assert describe_prediction(logits, {"classes": ["crane"] * 2})["scores"] == {"crane (1)": 0.75, "crane (0)": -0.25}


def test_features_and_other_predictions_are_listed() -> None:
    sample = SelfSupDataSample(metainfo={"img_path": "a.png"})
    sample.features = torch.tensor([0.5, 1.0])
    assert describe_prediction(sample, {}) == {"features": [0.5, 1.0]}
    assert describe_prediction(torch.tensor([1.0, 2.5]), {}) == {"prediction": [1.0, 2.5]}
    assert describe_prediction({"depth": torch.tensor(0.1)}, {}) == {"prediction": {"depth": 0.1}}


def test_a_predicted_image_is_drawn_and_not_listed() -> None:
    red = torch.tensor([0.0, 0.2, 254.6]).view(3, 1, 1).expand(3, 4, 6)  # BGR
    sample = BaseDataElement(metainfo={"ori_shape": (2, 3)}, output=BaseDataElement(pred_img=red), input=red)
    pixels = restored_image(sample)
    assert pixels is not None
    assert (pixels.shape, pixels[3, 5].tolist()) == ((4, 6, 3), [255, 0, 0])
    assert describe_prediction(sample, {}) == {"height": 2, "width": 3}


def test_files_of_detection_classification_and_features(tmp_path: Path) -> None:
    for name, key in (("fashion-det", "instances"), ("fashion-cls", "scores"), ("fashion-simclr", "height")):
        folder = tmp_path / name
        folder.mkdir()
        runner = save_untrained(recipe(name, folder / "work"), folder / "model.pth")
        dataset = runner.test_dataloader.dataset
        save_pictures(getattr(dataset, "datasets", [dataset])[0], folder / "images", 6)
        out = folder / "images" / "out"
        for _ in range(2 if name == "fashion-cls" else 1):  # the second run does not read the pictures of the first
            summary = predict_files(Predictor(folder / "model.pth", device="cpu"), [str(folder / "images")], str(out))
            lines = Path(summary.path).read_text().splitlines()
            count = len(list((out / "pictures").glob("*.png")))
            if key == "height":  # an image has only features, and nothing to draw
                assert (count, np.load(out / "features.npy").shape) == (0, (len(lines), 192))
            assert len(lines) == summary.images == (count or len(lines)) > 1
            assert f'"{key}": ' in lines[0]
            shown = [len(json.loads(line)["instances"]) for line in lines] if key == "instances" else None
            assert summary.instances == (sum(shown) if shown else None)


def test_files_of_other_origin_are_not_overwritten(tmp_path: Path, predictor: Predictor) -> None:
    folder = "labels"
    for name in ("images", folder):
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.new("L", (28, 28)).save(tmp_path / "data" / name / "a.png")
    before = (tmp_path / "data" / folder / "a.png").read_bytes()
    with pytest.raises(ArgumentError, match=f"might overwrite '.*{folder}'"):
        predict_files(predictor, [str(tmp_path / "data" / "images")], str(tmp_path / "data"))
    assert (tmp_path / "data" / folder / "a.png").read_bytes() == before
    assert not (tmp_path / "data" / "predictions.jsonl").exists()


def test_an_interrupted_command_keeps_its_lines_and_the_earlier_file(
    tmp_path: Path, classifier: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict_files(predictor, [str(classifier / "images" / "005.png")], str(tmp_path / "out"))
    draw, calls = predictor.draw, iter(range(100))

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == 3:
            raise KeyboardInterrupt
        return draw(*args, **kwargs)

    monkeypatch.setattr(predictor, "draw", interrupted)
    with pytest.raises(KeyboardInterrupt):
        predict_files(predictor, [str(classifier / "images")], str(tmp_path / "out"))
    assert _inputs(tmp_path / "out" / "predictions.jsonl.partial") == ["000.png", "001.png", "002.png"]
    assert _inputs(tmp_path / "out" / "predictions.jsonl") == ["005.png"]
    monkeypatch.setattr(predictor, "draw", draw)
    (tmp_path / "out" / "predictions.jsonl").unlink()  # the folders are still known as those of predictions
    predict_files(predictor, [str(classifier / "images")], str(tmp_path / "out"))
    assert len(_inputs(tmp_path / "out" / "predictions.jsonl")) > 3
    assert not (tmp_path / "out" / "predictions.jsonl.partial").exists()


def test_a_failed_drawing_costs_only_its_picture(
    tmp_path: Path,
    classifier: Path,
    predictor: Predictor,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    images = [str(classifier / "images" / name) for name in ("000.png", "001.png")]
    draw = predictor.draw

    def failing(image: Any, *args: Any, **settings: Any) -> Any:
        if str(image).endswith("000.png"):
            raise TypeError("coordinate list")
        return draw(image, *args, **settings)

    monkeypatch.setattr(predictor, "draw", failing)
    predict_files(predictor, images, str(tmp_path / "out"))
    lines = json_lines(tmp_path / "out/predictions.jsonl")
    assert [each.get("picture") for each in lines] == [None, "pictures/001.png"]
    assert [each.partition(" cannot ")[0] for each in caplog.messages] == ["The image '000'"]


def _inputs(path: Path) -> list[str]:
    return [Path(line["input"]).name for line in json_lines(path)]


def test_frames_of_a_video_have_a_line_each(tmp_path: Path, classifier: Path, predictor: Predictor) -> None:
    (tmp_path / "films").mkdir()
    writer = cv2.VideoWriter(str(tmp_path / "films/a.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 5, (28, 28))
    for index in range(6):
        writer.write(cv2.imread(str(classifier / f"images/00{index}.png")))
    writer.release()
    (tmp_path / "films/b.avi").write_bytes(b"no film")
    summary = predict_files(predictor, [str(tmp_path / "films")], str(tmp_path / "out"))
    lines = json_lines(summary.path)
    assert [(line["frame"], line["picture"]) for line in lines] == [
        (index, f"pictures/a/00000{index}.png") for index in range(6)
    ]
    assert all((tmp_path / "out" / line["picture"]).is_file() for line in lines)
    assert {line["input"] for line in lines} == {str(tmp_path / "films/a.avi")}
    (failure,) = summary.failures
    assert failure.error == f"OpenCV cannot decode any frame of the video '{failure.input}'"
    with pytest.raises(DataError, match=r"OpenCV cannot decode any frame of the video '.*b.avi'"):
        predict_files(predictor, [str(tmp_path / "films/b.avi")], str(tmp_path / "out"))


@VISUALIZERS.register_module()
class HasMinimumScore(Visualizer):
    """Draws instances above a score of its own, as that of MMDetection."""

    def add_datasample(  # type: ignore[override]
        self, name: str, image: Any, data_sample: Any = None, pred_score_thr: float = 0.3, **settings: Any
    ) -> None:
        self.set_image(np.full((1, 1, 3), int((data_sample.pred_instances.scores > pred_score_thr).sum()), np.uint8))


def test_a_code_base_draws_the_instances_that_are_listed(tmp_path: Path) -> None:
    cfg = recipe("fashion-det", tmp_path / "work")
    cfg["visualizer"] = {"type": "HasMinimumScore"}
    save_untrained(cfg, tmp_path / "model.pth")
    sample = DetDataSample()
    sample.pred_instances = InstanceData(bboxes=torch.zeros(3, 4), scores=torch.tensor([0.2, 0.1, 0.01]))
    predictor = Predictor(tmp_path / "model.pth", device="cpu")
    assert predictor.draw(np.zeros((4, 4, 3), np.uint8), sample, score=0.05)[0, 0, 0] == 2
