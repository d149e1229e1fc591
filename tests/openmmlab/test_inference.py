"""Predicts with checkpoints of installed code bases, and exports them, in the environment of `test_code_bases.py`."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.modules import ROOT
from tests.openmmlab.environment import ENVIRONMENT, run, write_scenes
from tests.openmmlab.test_code_bases import DETECTION, SEGMENTATION

# They share an environment and checkpoints. Each starts several processes that import a code base.
pytestmark = [pytest.mark.xdist_group("code bases"), pytest.mark.timeout(1800), pytest.mark.slow]

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


BOXES = """
import json
import numpy, onnxruntime
from PIL import Image
image = numpy.asarray(Image.open('data/images/0.png').convert('RGB'))[..., ::-1]
images = numpy.ascontiguousarray(image.transpose(2, 0, 1)[None], dtype=numpy.float32)
names = ['boxes', 'scores', 'labels']
outputs = onnxruntime.InferenceSession('detector.onnx').run(names, {'images': images})
with open('boxes.json', 'w') as file:
    json.dump([values.tolist() for values in outputs], file)
"""


def test_exported_detector_and_predict_find_the_same_boxes(python: str, folder: Path) -> None:
    pytest.importorskip("onnxruntime")
    words = ["mmdet/epoch_1.pth", "--to", "onnx", "-o", "detector.onnx", "--image", "data/images/0.png"]
    output = run(python, folder, "export", *words)
    assert "output      boxes (K, 4)\noutput      scores (K)\n" in output
    (folder / "boxes.py").write_text(BOXES)
    subprocess.run([python, "boxes.py"], cwd=folder, env=ENVIRONMENT, capture_output=True, check=True)
    boxes, scores, labels = json.loads((folder / "boxes.json").read_text())
    words = ["mmdet/epoch_1.pth", "data/images/0.png", "--out", "boxes", "--device", "cpu", "--score", "0"]
    unchanged = [f"test_dataloader.dataset.pipeline.{setting}" for setting in ("2.scale=(64,64)", "3.prob=0.0")]
    run(python, folder, "predict", *words, "--no-pictures", "--set", *unchanged)
    (line,) = (json.loads(line) for line in (folder / "boxes/predictions.jsonl").read_text().splitlines())
    instances = line["instances"]
    assert len(instances) == len(scores) > 10
    for found, box, score, label in zip(instances, boxes, scores, labels, strict=True):
        assert found["label"] == label
        assert found["score"] == pytest.approx(score, abs=1e-5)
        assert found["box"] == pytest.approx(box, abs=0.01)


@pytest.mark.parametrize(("name", "key"), [("mmpretrain", "scores"), ("mmseg", "classes"), ("mmdet", "instances")])
def test_predictions_are_written_and_drawn(python: str, folder: Path, name: str, key: str) -> None:
    out = f"predictions-{name}"
    words = [f"{name}/{CHECKPOINTS[name]}", "data/images", "--out", out, "--device", "cpu", "--score", "0"]
    run(python, folder, "predict", *words)
    lines = [json.loads(line) for line in (folder / out / "predictions.jsonl").read_text().splitlines()]
    assert [line["input"] for line in lines] == [f"data/images/{index}.png" for index in range(4)]
    assert all(line[key] and (line["height"], line["width"]) == (64, 64) for line in lines)
    assert all((folder / out / line["picture"]).stat().st_size > 1000 for line in lines)


INFERENCER = """
import json
import footplate.openmmlab
footplate.openmmlab.install()
from mmpretrain import ImageClassificationInferencer
inferencer = ImageClassificationInferencer('mmpretrain_config.py', pretrained='mmpretrain/epoch_1.pth', device='cpu')
found = inferencer([f'data/images/{index}.png' for index in range(4)])
with open('inferencer.json', 'w') as file:
    json.dump([[int(each['pred_label']), float(each['pred_score'])] for each in found], file)
"""


def test_an_inferencer_and_predict_agree(python: str, folder: Path) -> None:
    (folder / "inferencer.py").write_text(INFERENCER)
    subprocess.run([python, "inferencer.py"], cwd=folder, env=ENVIRONMENT, capture_output=True, check=True)
    found = json.loads((folder / "inferencer.json").read_text())
    run(python, folder, "predict", "mmpretrain/epoch_1.pth", "data/images", "--out", "single", "--batch-size", "1")
    lines = [json.loads(line) for line in (folder / "single/predictions.jsonl").read_text().splitlines()]
    assert [label for label, _ in found] == [line["label"] for line in lines]
    assert [score for _, score in found] == pytest.approx([line["score"] for line in lines], abs=1e-6)


def test_videos_are_read_with_opencv(python: str) -> None:
    """The environment of the other tests has no OpenCV, so these tests run here."""
    command = [python, "-m", "pytest", "-q", "-p", "no:xdist", "tests/inference/test_image_files.py"]
    command += ["-k", "test_video"]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert re.search(r"^2 passed", done.stdout, re.MULTILINE), done.stdout + done.stderr
