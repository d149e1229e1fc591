"""The parts of exported detectors that need no MMDetection; `test_inference.py` has the rest."""

import importlib
import importlib.util
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from footplate_vision.inference.exported_detector import (
    _MASK_HEAD,
    OPSET,
    ExportedDetector,
    _adaptive_max_pool2d,
    _Limit,
    _max_pool2d,
    _Minimum,
    _never_empty,
    _paste_masks,
    register_operators,
)

HAS_ONNX = all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))


class _Suppression(torch.nn.Module):
    def forward(self, boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        above = (scores > _Minimum(0.5)).nonzero().squeeze(1)
        scores, order = scores[above].sort(descending=True)
        count = min(_Limit(40), scores.size(0))
        above, scores = above[order[:count]], scores[:count]
        kept = torch.ops.footplate.nms(boxes[above], scores, 0.4)
        return above[kept], scores[kept]


def _boxes(count: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, generator=generator) * 60
    sizes = 5 + torch.rand(count, 2, generator=generator) * 30
    return torch.cat((corners, corners + sizes), 1), torch.rand(count, generator=generator)


def _exported(module: torch.nn.Module, folder: Path, **inputs: Tensor) -> Any:
    """Exports a module for inputs of any length, and opens the file."""
    onnxruntime: Any = importlib.import_module("onnxruntime")
    register_operators()
    path = str(folder / "a.onnx")
    axes = {name: {0: "n"} for name in inputs}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter is deprecated, and traces depend on sizes
        torch.onnx.export(
            module,
            tuple(inputs.values()),
            path,
            dynamo=False,
            opset_version=OPSET,
            input_names=list(inputs),
            dynamic_axes=axes,
        )
    return onnxruntime.InferenceSession(path)


@pytest.mark.skipif(not HAS_ONNX, reason="needs onnx, onnxscript and onnxruntime")
def test_trace_contains_the_general_case(tmp_path: Path) -> None:
    module, boxes, scores = _Suppression(), *_boxes(12, 0)
    session = _exported(module, tmp_path, boxes=boxes, scores=scores * 0)  # no score is above the minimum
    for count, seed in ((12, 1), (150, 2), (150, 3)):
        boxes, scores = _boxes(count, seed)
        expected, found = module(boxes, scores), session.run(None, {"boxes": boxes.numpy(), "scores": scores.numpy()})
        assert len(expected[0]) > 3
        assert found[0].tolist() == expected[0].tolist()
        assert found[1].tolist() == expected[1].tolist()
    found = session.run(None, {"boxes": boxes.numpy(), "scores": scores.numpy() * 0})
    assert len(found[0]) == 0


class _Decoding(torch.nn.Module):
    def forward(self, boxes: Tensor, deltas: Tensor) -> Any:
        return _never_empty(self.decode)(boxes, deltas, 2)

    def decode(self, boxes: Tensor, deltas: Tensor, scale: int) -> Tensor:
        count = boxes.size(0)
        return (boxes + deltas.reshape(-1, 4) * scale).reshape(count, -1)


@pytest.mark.skipif(not HAS_ONNX, reason="needs onnx, onnxscript and onnxruntime")
def test_image_without_candidates_has_no_boxes(tmp_path: Path) -> None:
    boxes, _ = _boxes(5, 0)
    session = _exported(_Decoding(), tmp_path, boxes=boxes, deltas=boxes)
    for count in (0, 3):
        inputs = boxes[:count].numpy()
        (found,) = session.run(None, {"boxes": inputs, "deltas": inputs})
        assert found.shape == (count, 4)
        assert found.tolist() == (boxes[:count] * 3).tolist()


class _Scores(torch.nn.Module):
    def forward(self, logits: Tensor) -> Tensor:
        return logits.sigmoid()


@pytest.mark.skipif(not HAS_ONNX, reason="needs onnx, onnxscript and onnxruntime")
def test_small_scores_keep_their_order(tmp_path: Path) -> None:
    logits = torch.linspace(-25, -15, 64)
    (scores,) = _exported(_Scores(), tmp_path, logits=logits).run(None, {"logits": logits.numpy()})
    assert len(set(scores.tolist())) == 64
    assert torch.allclose(torch.tensor(scores), logits.sigmoid(), rtol=1e-5, atol=0)


class _Pooling(torch.nn.Module):
    max_pool2d: Any = staticmethod(_max_pool2d)
    adaptive_max_pool2d: Any = staticmethod(_adaptive_max_pool2d)

    def forward(self, images: Tensor) -> Any:
        height, width = images.shape[2:]
        halves = self.max_pool2d(images, (height // (height // 2), width // (width // 2)))
        return self.adaptive_max_pool2d(halves, (height // 3, width // 5))


@pytest.mark.skipif(not HAS_ONNX, reason="needs onnx, onnxscript and onnxruntime")
def test_pooling_is_exported_for_other_sizes(tmp_path: Path) -> None:
    onnxruntime: Any = importlib.import_module("onnxruntime")
    module, reference, path = _Pooling(), _Pooling(), str(tmp_path / "a.onnx")
    reference.max_pool2d, reference.adaptive_max_pool2d = F.max_pool2d, F.adaptive_max_pool2d
    options: dict[str, Any] = {"input_names": ["images"], "dynamic_axes": {"images": {2: "H", 3: "W"}}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter is deprecated, and the trace depends on sizes
        torch.onnx.export(module, (torch.zeros(1, 2, 20, 20),), path, dynamo=False, opset_version=OPSET, **options)
    images = torch.rand(1, 2, 26, 48, generator=torch.Generator().manual_seed(0))
    (output,) = onnxruntime.InferenceSession(path).run(None, {"images": images.numpy()})
    assert output.tolist() == reference(images).tolist()


def test_instances_are_compared_in_any_order() -> None:
    boxes, scores = _boxes(30, 0)
    labels, masks = torch.arange(30) % 3, torch.arange(30)[:, None, None] == torch.zeros(30, 4, 4)
    instances = [boxes, scores, labels, masks]
    compare = ExportedDetector.difference
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    shuffled = [values[order] for values in instances]
    assert compare(None, shuffled, instances) == 0  # type: ignore[arg-type]
    best = int(scores.argmax())
    for index, change in ((0, 1.0), (1, -0.1), (2, 1), (3, True)):
        changed = [values.clone() for values in shuffled]
        place = int((order == best).nonzero())
        changed[index][place] = change if index == 3 else changed[index][place] + change
        assert compare(None, changed, instances) > 1e-3  # type: ignore[arg-type]
        assert compare(None, instances, changed) > 1e-3  # type: ignore[arg-type]
    weak = [values[scores <= 0.3] for values in instances]
    others = [values[weak[1] < weak[1].max()] for values in weak]
    assert compare(None, others, weak) > 1e-3  # type: ignore[arg-type]
    assert compare(None, instances, [values[:0] for values in instances]) == float("inf")  # type: ignore[arg-type]


@pytest.mark.parametrize("activated", [False, True])
def test_masks_of_a_cascade_are_probabilities(monkeypatch: pytest.MonkeyPatch, activated: bool) -> None:
    module: Any = SimpleNamespace(_do_paste_mask=lambda masks, *_, skip_empty: (masks[:, 0], ()))
    monkeypatch.setitem(sys.modules, _MASK_HEAD, module)
    head, cfg = SimpleNamespace(class_agnostic=True), SimpleNamespace(mask_thr_binary=0.5)
    logits = torch.tensor([[[[-2.0, 2.0]]]])
    masks = logits.sigmoid() if activated else logits
    boxes, labels, meta = torch.zeros(1, 4), torch.zeros(1, dtype=torch.long), {"img_shape": (1, 2)}
    pasted = _paste_masks(head, masks, boxes, labels, meta, cfg, rescale=False, activate_map=activated)
    assert pasted.tolist() == [[[False, True]]]
