"""Predicts with checkpoints of installed code bases, and exports them, in the environment of `test_code_bases.py`."""

import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.footplate_openmmlab.environment import python_runs, run, write_scenes
from tests.footplate_openmmlab.host_configs import DETECTION, SEGMENTATION
from tests.modules import ROOT
from tests.support import json_lines

# They share checkpoints. Each starts several processes that import a code base.
pytestmark = [pytest.mark.xdist_group("predictions"), pytest.mark.timeout(1800), pytest.mark.slow]

CLASSIFICATION = """
_base_ = 'mmpretrain::resnet/resnet18_8xb32_in1k.py'
pipeline = [
    dict(type='LoadImageFromFile'), dict(type='ResizeEdge', scale=48, edge='short'),
    dict(type='CenterCrop', crop_size=48), dict(type='PackInputs')]
def _data():
    return dict(_delete_=True, type='CustomDataset', data_root='data/classes', pipeline=pipeline)
model = dict(head=dict(num_classes=2, topk=1))
data_preprocessor = dict(num_classes=2)
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False, dataset=_data())
val_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False, dataset=_data())
test_dataloader = val_dataloader
val_evaluator = dict(topk=1)
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=1)
randomness = dict(seed=3)
"""
RETINANET = (
    DETECTION.replace("faster_rcnn/faster-rcnn_r50_fpn", "retinanet/retinanet_r18_fpn")
    .replace("depth=18, ", "")
    .replace("neck=dict(in_channels=[64, 128, 256, 512])", "bbox_head=dict(num_classes=2)")
    .replace("roi_head=dict(bbox_head=dict(num_classes=2)))", "test_cfg=dict(score_thr=0.0, nms_pre=20))")
)
CHECKPOINTS = {"mmpretrain": "epoch_1.pth", "mmseg": "iter_2.pth", "mmdet": "epoch_1.pth"}


@pytest.fixture(scope="module")
def folder(python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures, and a run of each code base with a checkpoint after one or two iterations."""
    folder = tmp_path_factory.mktemp("runs")
    write_scenes(folder)
    short = (
        SEGMENTATION + "train_cfg.update(max_iters=2, val_interval=2)\ndefault_hooks['checkpoint']['interval'] = 2\n"
    )
    for name, config in (("mmpretrain", CLASSIFICATION), ("mmseg", short), ("mmdet", RETINANET)):
        (folder / f"{name}_config.py").write_text(config)
        run(python, folder, "train", f"{name}_config.py", "--work-dir", name, "--no-preflight")
    return folder


@pytest.mark.parametrize("name", list(CHECKPOINTS))
def test_onnx_files_compute_what_the_models_do(python: str, folder: Path, name: str) -> None:
    pytest.importorskip("onnxruntime")
    output = run(python, folder, "export", f"{name}/{CHECKPOINTS[name]}", "--to", "onnx", "-o", f"{name}.onnx")
    found = re.search(r"difference  at most (\S+), tested with inputs of (.*)", output)
    assert found is not None, output
    assert float(found[1]) <= 1e-4
    assert len(found[2].split(", ")) >= 2  # also with another batch size or image size
    assert (folder / f"{name}.onnx").stat().st_size > 1e6


MASKS = (
    DETECTION.replace("faster_rcnn/faster", "mask_rcnn/mask")
    .replace("scale=(96, 96)", "scale=(96, 64)")
    .replace("dict(type='RandomFlip', prob=0.5),", "")
    .replace("roi_head=dict(", "roi_head=dict(mask_head=dict(num_classes=2), ")
)
# Random weights that detect objects with different scores, and masks that fill the boxes.
DETECTOR = """
import torch
import footplate_openmmlab
footplate_openmmlab.install()
from mmdet.registry import MODELS
from mmengine import Config
torch.manual_seed(1)
cfg = Config.fromfile('masks.py')
model = MODELS.build(cfg.model)
model.init_weights()
model.roi_head.bbox_head.fc_cls.weight.data *= 30
model.roi_head.mask_head.conv_logits.weight.data *= 0
model.roi_head.mask_head.conv_logits.bias.data += 1
meta = {'cfg': cfg.pretty_text, 'dataset_meta': {'classes': ('a', 'b')}}
torch.save({'state_dict': model.state_dict(), 'meta': meta}, 'masks.pth')
"""
RESULTS = """
import json
from pycocotools import mask
code = open('snippet.py').read()
for line in open('masks/predictions.jsonl'):
    predicted, names = json.loads(line), {}
    exec(code.replace('images/1.jpg', predicted['input']), names)
    shown = [place for place, score in enumerate(names['scores']) if score >= 0.3]
    assert len(shown) == len(predicted['instances']) > 3, (len(shown), len(predicted['instances']))
    for instance in predicted['instances']:
        def distance(place):
            return max(abs(names['boxes'][place] - instance['box']))
        place = min((each for each in shown if names['labels'][each] == instance['label']), key=distance)
        assert distance(place) < 0.05, distance(place)
        assert names['classes'][names['labels'][place]] == instance['class']
        assert abs(names['scores'][place] - instance['score']) < 1e-4
        ours, theirs = names['masks'][place], mask.decode(instance['segmentation']).astype(bool)
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        print((ours & theirs).sum() / max(1, (ours | theirs).sum()))
"""


def test_code_of_the_page_and_predict_find_the_same_instances(python: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    write_scenes(tmp_path)
    (tmp_path / "pair").mkdir()
    image = Image.open(tmp_path / "data/images/0.png")
    for name, size in (("landscape", (150, 90)), ("portrait", (85, 130))):
        image.resize(size, Image.Resampling.BICUBIC).save(tmp_path / f"pair/{name}.png")
    page = (ROOT / "docs/exporting.md").read_text()
    (code,) = re.findall(r"^```\n(import cv2[^`]*?^boxes.*?)^```$", page, re.M | re.S)
    codes = {"masks": MASKS, "detector": DETECTOR, "results": RESULTS, "snippet": code}
    for name, text in codes.items():
        (tmp_path / f"{name}.py").write_text(text)
    python_runs(python, tmp_path, "detector.py")
    (target,) = re.findall(r"InferenceSession\('(.*)'\)", code)
    words = ["masks.pth", "--to", "onnx", "-o", target, "--image", "pair/landscape.png"]
    output = run(python, tmp_path, "export", *words)
    values = "float32, 0 to 255, BGR, after Resize(scale=[96, 64], keep_ratio=True)"
    assert f"input       images (1, 3, H, W), {values}\n" in output
    run(python, tmp_path, "predict", "masks.pth", "pair", "--out", "masks", "--device", "cpu", "--batch-size", "1")
    overlaps = [float(line) for line in python_runs(python, tmp_path, "results.py").split()]
    assert sum(overlaps) / len(overlaps) > 0.9
    session: Any = importlib.import_module("onnxruntime").InferenceSession(tmp_path / target)
    shapes = {value.name: value.shape for value in (*session.get_inputs(), *session.get_outputs())}
    assert shapes == {
        "images": [1, 3, "H", "W"],
        "boxes": ["K", 4],
        "scores": ["K"],
        "labels": ["K"],
        "masks": ["K", "H", "W"],
    }
    words = ["masks.pth", "--to", "onnx", "-o", target, "--opset", "11"]
    output = run(python, tmp_path, "export", *words, code=2)
    assert "detectors can be exported only with opset 17 or later" in output


@pytest.mark.parametrize(("name", "key"), [("mmpretrain", "scores"), ("mmseg", "classes"), ("mmdet", "instances")])
def test_predictions_are_written_and_drawn(python: str, folder: Path, name: str, key: str) -> None:
    out = f"predictions-{name}"
    words = [f"{name}/{CHECKPOINTS[name]}", "data/images", "--out", out, "--device", "cpu", "--score", "0"]
    run(python, folder, "predict", *words)
    lines = json_lines(folder / out / "predictions.jsonl")
    assert [line["input"] for line in lines] == [f"data/images/{index}.png" for index in range(4)]
    assert all(line[key] and (line["height"], line["width"]) == (64, 64) for line in lines)
    assert all((folder / out / line["picture"]).stat().st_size > 1000 for line in lines)


INFERENCER = """
import json
import footplate_openmmlab
footplate_openmmlab.install()
from mmpretrain import ImageClassificationInferencer
inferencer = ImageClassificationInferencer('mmpretrain_config.py', pretrained='mmpretrain/epoch_1.pth', device='cpu')
found = inferencer([f'data/images/{index}.png' for index in range(4)])
with open('inferencer.json', 'w') as file:
    json.dump([[int(each['pred_label']), float(each['pred_score'])] for each in found], file)
"""


def test_an_inferencer_and_predict_agree(python: str, folder: Path) -> None:
    (folder / "inferencer.py").write_text(INFERENCER)
    python_runs(python, folder, "inferencer.py")
    found = json.loads((folder / "inferencer.json").read_text())
    run(python, folder, "predict", "mmpretrain/epoch_1.pth", "data/images", "--out", "single", "--batch-size", "1")
    lines = json_lines(folder / "single/predictions.jsonl")
    assert [label for label, _ in found] == [line["label"] for line in lines]
    assert [score for _, score in found] == pytest.approx([line["score"] for line in lines], abs=1e-6)


def test_videos_are_read_with_opencv(python: str) -> None:
    """The environment of the other tests has no OpenCV, so these tests run here."""
    words = [
        "pytest",
        "-q",
        "-p",
        "no:xdist",
        "tests/footplate_vision/inference/test_image_files.py",
        "-k",
        "test_video",
    ]
    assert re.search(r"^2 passed", python_runs(python, ROOT, "-m", *words), re.MULTILINE)
