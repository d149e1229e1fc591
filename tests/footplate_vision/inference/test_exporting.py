"""Exports to torch.export; ONNX if its packages are installed."""

import importlib
import importlib.util
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from footplate.checkpoint import save_checkpoint
from footplate.data import Compose
from footplate.errors import ArgumentError, DataError
from footplate.models import BaseModel, ImgDataPreprocessor
from footplate.registry import MODELS
from footplate_vision.detection import DetDataSample, SmallDetector
from footplate_vision.inference import (
    ExportError,
    Predictor,
    describe_export,
    export_model,
    open_trained,
    output_path_of,
)
from footplate_vision.inference.export_formats import ExportRequest, exportable_operators, largest_difference
from footplate_vision.inference.exported_file import write_and_open
from footplate_vision.inference.exported_model import ExportedModel
from footplate_vision.segmentation.data import SegDataSample
from tests.docs.pages import DOCS
from tests.footplate_vision.inference.models import recipe, save_pictures, save_untrained

HAS_ONNX = all(importlib.util.find_spec(each) for each in ("onnx", "onnxscript", "onnxruntime"))
needs_onnx = pytest.mark.skipif(not HAS_ONNX, reason="needs onnx, onnxscript and onnxruntime")


@MODELS.register_module()
class ListModel(BaseModel):
    """A model whose output depends on a Python list of its input, which no format can hold."""

    def __init__(self) -> None:
        super().__init__()
        self.head = _Listing()

    def forward(self, inputs: Tensor, data_samples: Any = None, mode: str = "tensor") -> Any:
        return self.head(inputs)


@MODELS.register_module()
class TwoWayModel(BaseModel):
    """A model that treats dark images in another way, but not in an exported file."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward(self, inputs: Tensor, data_samples: Any = None, mode: str = "tensor") -> Any:
        return inputs * self.scale if torch.compiler.is_compiling() or inputs[0].mean() > 100 else -inputs


@MODELS.register_module()
class OddSizesModel(TwoWayModel):
    """A model with a branch for features with an odd height and width, as that of PSANet in MMSegmentation."""

    def forward(self, inputs: Tensor, data_samples: Any = None, mode: str = "tensor") -> Any:
        features = F.avg_pool2d(inputs * self.scale, 8, ceil_mode=True)
        return -features if features.shape[2] % 2 and features.shape[3] % 2 else features


@MODELS.register_module()
class RandomModel(TwoWayModel):
    """A model that draws random numbers in every prediction, as SegNeXt in MMSegmentation."""

    def forward(self, inputs: Tensor, data_samples: Any = None, mode: str = "tensor") -> Any:
        return inputs * torch.rand_like(inputs)


@MODELS.register_module()
class WindowModel(TwoWayModel):
    """Predicts in sliding windows, as many configs of MMSegmentation do."""

    test_cfg = {"mode": "slide", "crop_size": [16, 16], "stride": [8, 8]}

    def encode_decode(self, inputs: Tensor, metas: Any) -> Tensor:
        return inputs.expand(-1, 2, -1, -1) * self.scale


def _resize(features: Tensor, size: Any, warning: bool = True) -> Tensor:
    assert not warning or all(int(side) for side in size)
    return F.interpolate(features, size)


class _Upsample(torch.nn.Module):
    size, scale_factor, mode, align_corners = None, 2.0, "nearest", None

    def forward(self, features: Tensor) -> Tensor:
        return F.interpolate(features, [int(side * self.scale_factor) for side in features.shape[2:]])


@MODELS.register_module()
class ResizingModel(TwoWayModel):
    """A segmentor of MMSegmentation, whose functions for resizing use integers."""

    def __init__(self) -> None:
        super().__init__()
        self.upsample = _Upsample()

    def encode_decode(self, inputs: Tensor, metas: Any) -> Tensor:
        features = self.upsample(F.avg_pool2d(inputs * self.scale, 4, ceil_mode=True))
        return _resize(features.expand(-1, 2, -1, -1), inputs.shape[2:])


class _Listing(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward(self, inputs: Tensor) -> Tensor:
        values = (self.scale * inputs.flatten(1).mean(dim=1)).numpy().tolist()
        return torch.tensor([round(each) for each in values])


def untrained(folder: Path) -> Any:
    """Saves a classifier and opens it."""
    save_untrained(recipe("fashion-cls", folder / "work"), folder / "model.pth")
    return open_trained(folder / "model.pth")


def trained_as(folder: Path, model: str, weight: str = "scale", *, recipe_name: str = "fashion-cls") -> Any:
    """Saves the only weight of a model and opens it with the data of a recipe."""
    cfg = recipe(recipe_name, folder / "work")
    cfg["model"] = {"type": model}
    save_checkpoint({"meta": {}, "state_dict": {weight: torch.ones(1)}}, folder / "model.pth")
    return open_trained(folder / "model.pth", cfg)


def exported_as(folder: Path, model: str, **options: Any) -> Any:
    """Exports a model with one weight to torch.export."""
    return export_model(trained_as(folder, model), str(folder / "a.pt2"), "torch-export", **options)


@pytest.mark.parametrize("name", ["fashion-seg", "fashion-det", "fashion-cls", "fashion-simclr"])
def test_exported_module_computes_what_the_model_predicts(tmp_path: Path, name: str) -> None:
    cfg = recipe(name, tmp_path / "work")
    runner = save_untrained(cfg, tmp_path / "model.pth")
    dataset = runner.test_dataloader.dataset
    dataset = getattr(dataset, "datasets", [dataset])[0]
    paths = save_pictures(dataset, tmp_path / "images", 4)
    predictor = Predictor(tmp_path / "model.pth", device="cpu")
    found = predictor(paths)
    samples = [predictor._preprocessing(path, 0) for path in paths]
    images = torch.stack([each["inputs"][0] if name == "fashion-simclr" else each["inputs"] for each in samples])
    with torch.no_grad():
        outputs = ExportedModel(predictor.model).named_outputs(images.float())
    if name == "fashion-seg":
        logits = torch.stack([each.seg_logits.data for each in found])
        assert torch.equal(outputs["probabilities"], logits.softmax(1))
        assert torch.equal(outputs["labels"], logits.argmax(1))
    elif name == "fashion-cls":
        assert torch.equal(outputs["probabilities"], torch.stack([each.pred_score for each in found]))
        assert torch.equal(outputs["labels"], torch.cat([each.pred_label for each in found]))
    elif name == "fashion-simclr":
        assert torch.equal(outputs["features"], torch.stack([each.features for each in found]))
    else:
        for scores, boxes, sample in zip(outputs["scores"], outputs["boxes"], found, strict=True):
            chosen = predictor.model.select(scores, boxes, sample)
            assert torch.equal(chosen.bboxes, sample.pred_instances.bboxes)
            assert torch.equal(chosen.scores, sample.pred_instances.scores)


@MODELS.register_module()
class BestPositionsDetector(SmallDetector):
    """A detector that selects candidates itself, with another `topk` than that of `Selection`."""

    def candidates(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        scores, boxes = super().candidates(inputs)
        places = scores.amax(-1).topk(min(40, scores.shape[1]), dim=1).indices[..., None]
        return scores.gather(1, places.expand(-1, -1, scores.shape[2])), boxes.gather(1, places.expand(-1, -1, 4))


@needs_onnx
@pytest.mark.parametrize(
    ("kind", "score_thr", "scale"),
    [("SmallDetector", 0.005, 1), ("SmallDetector", 0.0115, 80), ("BestPositionsDetector", 0.005, 1)],
)
def test_file_of_a_detector_selects_what_predict_does(tmp_path: Path, kind: str, score_thr: float, scale: int) -> None:
    cfg = recipe("fashion-det", tmp_path / "work")
    sizes = {"widths": (8, 8, 8), "depths": (1, 1, 1), "levels": 2, "head_width": 8}
    limits = {"score_thr": score_thr, "nms_pre": 120, "nms_iou_thr": 0.4, "max_per_img": 30}
    cfg["model"].update(sizes, type=kind, test_cfg=limits)
    save_untrained(cfg, tmp_path / "model.pth")
    exported = export_model(open_trained(tmp_path / "model.pth"), str(tmp_path / "a.onnx"), "onnx")
    assert exported.outputs == {"boxes": ("K", 4), "scores": ("K",), "labels": ("K",)}
    assert exported.detections == (30 if scale == 1 else 0)  # the trace of an image without objects detects objects
    session = importlib.import_module("onnxruntime").InferenceSession(str(tmp_path / "a.onnx"))
    model: Any = open_trained(tmp_path / "model.pth").build(torch.device("cpu"))
    generator = np.random.default_rng(0)
    for size in ((64, 64), (96, 70), (8, 6)):  # the last one has fewer candidates than nms_pre
        images = generator.integers(0, 256, (1, 3, *size)).astype(np.float32) * scale
        with torch.no_grad():
            (sample,) = model.predict(ExportedModel(model).preprocess(torch.from_numpy(images)), [_sample(size)])
        expected = sample.pred_instances
        boxes, scores, labels = session.run(None, {"images": images})
        assert len(scores) > 2
        assert labels.tolist() == expected.labels.tolist()
        assert np.allclose(boxes, expected.bboxes, atol=1e-3)
        assert np.allclose(scores, expected.scores, atol=1e-6)


def _sample(size: tuple[int, int]) -> DetDataSample:
    return DetDataSample(metainfo={"img_shape": size})


@pytest.mark.parametrize("to", ["torch-export", pytest.param("onnx", marks=[needs_onnx, pytest.mark.slow])])
def test_file_computes_what_the_model_does_at_other_sizes(tmp_path: Path, to: str) -> None:
    target = output_path_of(str(tmp_path / "model.pth"), to)
    exported = export_model(untrained(tmp_path), target, to)
    assert exported.difference <= 1e-4
    assert exported.size == Path(target).stat().st_size
    text = describe_export(exported)
    assert exported.outputs == {"probabilities": ("N", 10), "labels": ("N",)}
    assert exported.tested == [(2, 1, 28, 28), (3, 1, 28, 28), (1, 1, 29, 29), (1, 1, 31, 33)]
    assert "input       images (N, 1, H, W), float32, 0 to 255\n" in text


def test_file_that_predicts_whole_images_instead_of_windows_is_exported_with_a_warning(tmp_path: Path) -> None:
    exported = exported_as(tmp_path, "WindowModel")
    *_, difference, warning = describe_export(exported).splitlines()
    assert "at most 0 from the model on whole images, tested with" in difference
    assert warning == (
        "warning     the file predicts whole images, but `test` and `predict` use sliding windows "
        "(crop_size=(16, 16), stride=(8, 8)), so results differ. Run the file on these windows instead."
    )
    files = {"metainfo.json": ""}
    torch.export.load(tmp_path / "a.pt2", extra_files=files)
    assert json.loads(json.loads(files["metainfo.json"])["sliding_window"]) == {"crop_size": [16, 16], "stride": [8, 8]}


@pytest.mark.parametrize("size", [None, (20, 36)])
def test_file_is_verified_with_the_image(tmp_path: Path, size: tuple[int, int] | None) -> None:
    for brightness in (50, 200):
        Image.new("L", (28, 28), brightness).save(tmp_path / f"{brightness}.png")
    for image in (None, str(tmp_path / "200.png")):
        exported = exported_as(tmp_path, "TwoWayModel", size=size, image=image)
        assert exported.tested[0] == (2, 1, *(size or (28, 28)))
        assert len(exported.tested) == 4
    message = r"its outputs differ from the model's by"
    with pytest.raises(ExportError, match=message):
        exported_as(tmp_path, "TwoWayModel", size=size, image=str(tmp_path / "50.png"))


def test_sizes_are_tested_with_odd_and_even_features(tmp_path: Path) -> None:
    exported = exported_as(tmp_path, "OddSizesModel", size=(32, 32))
    assert exported.multiple == 16
    assert exported.outputs == {"output": ("N", 1, "?", "?")}


def test_model_with_random_predictions_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="the model's outputs differ between two runs on the same input"):
        exported_as(tmp_path, "RandomModel")


@pytest.mark.parametrize("order", ["bgr", "rgb"])
def test_channel_order_and_transforms_are_in_the_output_and_in_the_file(tmp_path: Path, order: str) -> None:
    resize = {"type": "Resize", "scale": (96, 64), "keep_ratio": True}
    loading = {"type": "LoadImageFromFile", "channel_order": order}
    trained = trained_as(tmp_path, "TwoWayModel", recipe_name="fashion-seg")
    trained.cfg["test_dataloader"]["dataset"]["pipeline"] = [loading, resize, {"type": "PackSegInputs"}]
    exported = export_model(trained, str(tmp_path / "a.pt2"), "torch-export")
    values = f"float32, 0 to 255, {order.upper()}, after Resize(scale=[96, 64], keep_ratio=True)"
    assert exported.inputs == {"images": (("N", 3, "H", "W"), values)}
    files = {"metainfo.json": ""}
    torch.export.load(tmp_path / "a.pt2", extra_files=files)
    metainfo = json.loads(files["metainfo.json"])
    assert metainfo["channel_order"] == order
    assert json.loads(metainfo["pipeline"]) == [{**resize, "scale": [96, 64]}]


class _Pooled(torch.nn.Module):
    def __init__(self, *, is_fixed: bool) -> None:
        super().__init__()
        self.is_fixed = is_fixed

    def forward(self, images: Tensor) -> Tensor:
        height, width = (int(each) if self.is_fixed else each for each in images.shape[2:])
        return F.interpolate(F.adaptive_avg_pool2d(images, (3, 5)), (height, width))


@needs_onnx
@pytest.mark.parametrize("is_fixed", [False, True])
def test_onnx_file_is_right_at_other_sizes_or_rejects_them(tmp_path: Path, is_fixed: bool) -> None:
    onnxruntime: Any = importlib.import_module("onnxruntime")
    module, images = _Pooled(is_fixed=is_fixed), torch.rand(2, 1, 17, 11)
    request = ExportRequest(
        module.eval(), torch.rand(2, 1, 9, 15), ["output"], str(tmp_path / "a.onnx"), {}, dims=(0, 2, 3)
    )
    with exportable_operators():
        write_and_open("onnx", request, replace(request, dims=()))
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx")
    if is_fixed:
        with pytest.raises(Exception, match="Got invalid dimensions"):
            session.run(None, {"images": images.numpy()})
    else:
        (pooled,) = session.run(None, {"images": images.numpy()})
        assert torch.from_numpy(pooled).sub(module(images)).abs().max() < 1e-5


def test_segmentor_of_mmsegmentation_is_exported_for_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrappers: Any = SimpleNamespace(resize=_resize, Upsample=_Upsample)
    monkeypatch.setitem(sys.modules, "mmseg.models.utils.wrappers", wrappers)
    exported = export_model(trained_as(tmp_path, "ResizingModel"), str(tmp_path / "a.pt2"), "torch-export")
    assert exported.outputs["labels"] == ("N", "H", "W")
    assert exported.multiple == 1 or torch.__version__ < "2.13"


def test_differences_are_found() -> None:
    values, labels = torch.tensor([1.0, 2.0, float("inf")]), torch.tensor([1, 2, 3, 4])
    assert largest_difference([values, labels], [values, labels]) == 0
    assert largest_difference([values + 0.5], [values]) == 0.25  # of the largest value
    scores, boxes = torch.tensor([0.3]), torch.tensor([-11319.0])
    assert largest_difference([scores + 0.25, boxes + 0.5], [scores, boxes]) == 0.25
    assert largest_difference([labels], [torch.tensor([1, 2, 3, 0])]) == 0.25
    assert largest_difference([values[:2]], [values]) == float("inf")
    assert largest_difference([torch.tensor([float("nan")])], [torch.tensor([0.0])]) == float("inf")


def test_labels_with_almost_equal_scores_are_interchangeable() -> None:
    probabilities = torch.tensor([[0.4, 0.4, 0.2], [0.5, 0.3, 0.2]])
    compare = ExportedModel(torch.nn.Identity()).difference
    expected = [probabilities, torch.tensor([0, 0])]
    assert compare([probabilities, torch.tensor([1, 0])], expected) == 0
    assert compare([probabilities, torch.tensor([1, 1])], expected) == 0.5


def test_file_that_differs_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a.pt2"
    target.write_bytes(b"of an earlier export")
    monkeypatch.setattr("footplate_vision.inference.exported_file.LIMIT", -1)
    with pytest.raises(ExportError, match=r"outputs differ from the model's by 0, more than -1"):
        export_model(trained_as(tmp_path, "TwoWayModel"), str(target), "torch-export")
    assert target.read_bytes() == b"of an earlier export"
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted([target.name, "model.pth"])


@pytest.mark.parametrize("test_cfg", [{"size_divisor": 48}, {"size": (80, 96)}])
def test_padding_is_that_of_the_validation(test_cfg: Any) -> None:
    size = (70, 50)
    settings = {"mean": [1.0, 2.0, 3.0], "std": [4.0, 5.0, 6.0], "bgr_to_rgb": True, "pad_val": 7, "test_cfg": test_cfg}
    preprocessor = {"type": "SegDataPreProcessor", **settings}
    model: Any = MODELS.build({"type": "SmallSegmentor", "num_classes": 4, "data_preprocessor": preprocessor}).eval()
    images = torch.arange(3.0 * size[0] * size[1]).view(1, 3, *size) % 256
    samples = [SegDataSample(metainfo={"img_shape": size, "ori_shape": size})]
    batch = {"inputs": [images[0]], "data_samples": samples}
    exported = ExportedModel(model)
    assert torch.equal(exported.preprocess(images), model.data_preprocessor(dict(batch))["inputs"])
    with torch.no_grad():
        (predicted,) = model.test_step(batch)
        found = exported.named_outputs(images)
    assert torch.equal(found["labels"], predicted.pred_sem_seg.data)
    assert torch.allclose(found["probabilities"][0], predicted.seg_logits.data.softmax(0))


@MODELS.register_module()
class HalvingPreprocessor(ImgDataPreprocessor):
    """Does something that no exported module does."""

    def forward(self, data: Any, training: bool = False) -> Any:
        batch = super().forward(data, training)
        return {**batch, "inputs": batch["inputs"] / 2}


def test_preprocessing_that_cannot_be_exported_is_an_error(tmp_path: Path) -> None:
    cfg = recipe("fashion-cls", tmp_path / "work")
    cfg["model"]["data_preprocessor"] = {"type": "HalvingPreprocessor"}
    save_untrained(cfg, tmp_path / "model.pth")
    with pytest.raises(ExportError, match="the preprocessing of 'HalvingPreprocessor' cannot be exported"):
        export_model(open_trained(tmp_path / "model.pth"), str(tmp_path / "a.pt2"), "torch-export")


def test_model_that_cannot_be_exported_names_the_line(tmp_path: Path) -> None:
    with pytest.raises(ExportError) as raised:
        export_model(trained_as(tmp_path, "ListModel", "head.scale"), str(tmp_path / "a.pt2"), "torch-export")
    text = str(raised.value)
    assert text.splitlines()[0].startswith("the model cannot be exported to torch-export: ")
    assert "test_exporting.py" in text
    assert ".numpy()" in text


@pytest.mark.parametrize(
    ("target", "to", "options", "message"),
    [
        ("a.pt2", "torch-export", {"opset": 18}, "an opset can be set only for ONNX"),
        ("a.pt2", "torch-export", {"image": "no.png"}, r"the file 'no\.png' does not exist"),
    ],
)
def test_wrong_arguments_are_errors(
    tmp_path: Path, target: str, to: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises((ArgumentError, DataError), match=message):
        export_model(untrained(tmp_path), str(tmp_path / target), to, **options)


@pytest.mark.parametrize("resize", [{"scale": (33, 20)}, {"scale": (61, 40), "keep_ratio": True}])
@pytest.mark.parametrize("orientation", [1, 6])
def test_the_documented_preparation_gives_the_pixels_of_predict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resize: dict[str, Any], orientation: int
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    exif = Image.Exif()
    exif[0x0112] = orientation
    noise = np.random.default_rng(0).integers(0, 256, (75, 50, 3), dtype=np.uint8)
    Image.fromarray(noise).save("images/1.jpg", exif=exif)
    (code,) = re.findall(r"^image = cv2.*?^pixels = .*?$", (DOCS / "exporting.md").read_text("utf-8"), re.M | re.S)
    names: dict[str, Any] = {"cv2": cv2, "resize": resize}
    exec(code, names)
    loads = [{"type": "LoadImageFromFile", "channel_order": "rgb"}, {"type": "Resize", **resize}]
    expected = Compose(loads)({"img_path": "images/1.jpg"})["img"]
    assert np.array_equal(names["pixels"][0], expected.transpose(2, 0, 1))
