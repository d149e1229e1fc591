"""Exports the trained model in a checkpoint to other formats."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from footplate.checks import check_choice, check_count
from footplate.config import as_plain
from footplate.error_context import located
from footplate.errors import ArgumentError, FootplateError
from footplate.messages import format_bytes, labeled
from footplate.registry import using_scope
from footplate_vision.detection.detector import BaseDetector
from footplate_vision.inference.export_formats import (
    FORMATS,
    INPUT,
    ExportRequest,
    exportable_operators,
    largest_difference,
    named_outputs,
)
from footplate_vision.inference.exported_detector import (
    MINIMUM_SCORE,
    OPSET,
    ExportedDetector,
    write_traced,
)
from footplate_vision.inference.exported_file import (
    LIMIT,
    Export,
    ExportError,
    check_target,
    export_error,
    format_shapes,
    keep_file,
    name_dims,
    temporary_file,
    write_and_open,
)
from footplate_vision.inference.exported_model import ExportedModel, resizing_any_size, sliding_window
from footplate_vision.inference.trained_model import (
    AdaptedModel,
    Preprocessing,
    TrainedModel,
    first_view,
    flattened,
    name_of,
)

_LEFT_OUT = ("Load", "Pack", "ImageToTensor", "DefaultFormatBundle", "Collect")
_MULTIPLES = (1, 2, 4, 8, 16, 32, 64)
_Shape = tuple[int, ...]
_Examples = Callable[[Sequence[int]], Tensor]
"""A function that returns example images of the given shape."""


def export_model(
    trained: TrainedModel,
    target: str,
    to: str,
    *,
    opset: int | None = None,
    size: Sequence[int] | None = None,
    image: str | None = None,
) -> Export:
    """Exports a trained model to a file, and runs the file to verify it.

    An image model is exported with its preprocessing. Models of footplate's tasks, MMSegmentation and MMDetection, and
    first-generation classifiers, also include their postprocessing. The input, `images`, is a float32 tensor of
    shape ``(N, C, H, W)`` with values from 0 to 255, in the channel order and size that the pipeline produces. A plain
    torch module trained with the Python API is exported without additions.

    Args:
        trained: The model.
        target: The file to write.
        to: The format, one of `FORMATS`.
        opset: The ONNX opset version; only for the format "onnx". At least 17 for detectors.
        size: The height and width of the example input, to which `image` is resized. Defaults to the pipeline's output
            size for `image` or, if it is None, for a generated image.
        image: An image for verifying the exported file. It is preprocessed by the config's pipeline. By default, the
            file is verified with random pixels, in which most detectors detect nothing.

    Raises:
        ArgumentError: The format is unknown, `target` is not a local file with the suffix of the format, or the format
            or the model does not support an option.
        CheckpointError: There is no config, or the checkpoint does not contain all weights of the model.
        DataError: The image cannot be read.
        ExportError: The model cannot be exported, or the outputs of the file and the model differ.
        MissingExtraError: A package that the format needs is not installed.
    """
    check_target(target, [_suffix(to)], inputs=[trained.path], opset=opset)
    trained = trained.prepared()
    trained.cfg["compile"] = False
    model = trained.build(torch.device("cpu"))
    is_of_mmdet = any(kind.__module__ == "mmdet.models.detectors.base" for kind in type(model).__mro__)
    is_own = to == "onnx" and isinstance(model, BaseDetector) and model.select.nms_iou_thr is not None
    is_detector = is_of_mmdet or is_own
    uses_mmdet = any(type(module).__module__.startswith("mmdet.") for module in model.modules())
    if is_of_mmdet and to != "onnx":
        raise ExportError(f"MMDetection detectors cannot be exported to {to}", key="--to", notes=["Use --to onnx."])
    if is_detector and opset is not None and opset < OPSET:
        message = f"detectors can be exported only with opset {OPSET} or later"
        raise ArgumentError(message, key="--opset", found=opset)
    with located(trained.cfg), using_scope(trained.cfg.get("default_scope")), exportable_operators():
        preprocessing = Preprocessing(trained.cfg, trained.metainfo)
        reference = None
        if isinstance(model, AdaptedModel):
            reference = preprocessing
            model, cfg = model.for_export(trained.cfg, to)
            preprocessing = Preprocessing(cfg, trained.metainfo)
        module = ExportedDetector(model).eval() if is_detector else ExportedModel(model).eval()
        examples, images, outputs = _run_example(preprocessing, module, size, image, reference)
        order = _channel_order(preprocessing)
        # The transforms to apply before the exported model. Loading and packing are left out.
        left_out = _LEFT_OUT if reference is None else (*_LEFT_OUT, "Normalize")
        transforms = flattened(preprocessing.transforms)
        steps = [as_plain(step) for step in transforms if not name_of(step).startswith(left_out)]
        metainfo = {
            "classes": json.dumps([str(name) for name in trained.metainfo.get("classes") or ()]),
            "channel_order": order,
            "pipeline": json.dumps(steps),
        }
        window = sliding_window(model if reference is None else model.module)
        if window:
            metainfo["sliding_window"] = json.dumps(window)
        values = f"float32, 0 to 255{order and f', {order.upper()}'}"
        if steps:
            values += f", after {_calls(steps)}"
        with temporary_file(target) as path:
            traced = _example_images(images.shape)  # so that the image verifies more than its own trace
            request = ExportRequest(module, traced, list(outputs), path, metainfo, opset, dims=(0, 2, 3))
            by_trace = replace(
                request,
                images=traced[:1],
                opset=opset or OPSET,
                dims=(2, 3),
                write=write_traced,
            )
            with resizing_any_size():
                try:
                    differences, multiple = _write(to, by_trace if is_detector else request, examples)
                except ExportError:  # for example, MMDetection's deformable attention converts shapes to tensors
                    if is_detector or not uses_mmdet or to != "onnx":
                        raise
                    differences, multiple = _write(to, by_trace, examples)
            tested, difference = list(differences), max(differences.values())
            counts = (1,) if tested[0][0] != len(images) else ()  # the batch size is fixed
            others = module.named_outputs(examples(tested[-1]))
            shapes = {
                name: name_dims((*counts, *output.shape[len(counts) :]), tested, others[name].shape)
                for name, output in outputs.items()
            }
            inputs = {INPUT: (name_dims(tested[0], tested), values)}
            export = Export(target, shapes, tested, difference, multiple, inputs=inputs, sliding_window=window)
            if is_detector:
                export = export._replace(
                    outputs={name: ("K", *shape[1:]) for name, shape in shapes.items()},
                    detections=len(outputs["scores"]),
                    compared=int((outputs["scores"] > MINIMUM_SCORE).sum()),
                )
            return keep_file(export, path, to)


def describe_export(export: Export) -> str:
    """Describes an exported model in text for the terminal.

    Args:
        export: The result of `export_model`.
    """
    lines = [f"{' and '.join([export.path, *export.data_files])}: {format_bytes(export.size)}"]

    def line(label: str, name: str, shape: tuple[int | str, ...], values: str = "") -> str:
        return labeled(label, f"{name} ({', '.join(map(str, shape))}){values}")

    lines += [line("input", name, shape, f", {values}") for name, (shape, values) in export.inputs.items()]
    if export.multiple > 1:
        lines.append(labeled("sizes", f"height and width must be multiples of {export.multiple}"))
    lines += [line("output", name, shape) for name, shape in export.outputs.items()]
    if export.detections != 0:
        tested = f"tested with inputs of {format_shapes(export.tested)}"
        reference = " from the model on whole images" if export.sliding_window else ""
        lines.append(labeled("difference", f"at most {export.difference:.2g}{reference}, {tested}"))
    if export.sliding_window:
        settings = ", ".join(f"{name}={value}" for name, value in export.sliding_window.items())
        text = f"the file predicts whole images, but `test` and `predict` use sliding windows ({settings})"
        lines.append(labeled("warning", f"{text}, so results differ. Run the file on these windows instead."))
    if export.detections is not None:
        label, text = "compared", f"{export.compared} of {export.detections} instances, those with a score above 0.3"
        if not export.compared:
            text = "no instance in the example scores above 0.3, so only the best were compared"
            if not export.detections:
                text = "nothing is detected in the example, so nothing was compared"
            label, text = "note", f"{text}; pass an image with objects: --image FILE"
        lines.append(labeled(label, text))
        lines.append(labeled("K", f"the number of detections; {export.detections} in the example"))
    return "\n".join(lines) + "\n"


def output_path_of(checkpoint: str, to: str) -> str:
    """Replaces the suffix of a checkpoint path with the suffix of an export format.

    Raises:
        ArgumentError: The format is unknown.

    >>> output_path_of("work/iter_4.sharded/", "onnx")
    'work/iter_4.onnx'
    """
    return os.path.splitext(checkpoint.rstrip("/"))[0] + _suffix(to)


def _suffix(to: str) -> str:
    return FORMATS[check_choice("--to", to, FORMATS)].suffix


def _run_example(
    preprocessing: Preprocessing,
    module: ExportedModel,
    size: Sequence[int] | None,
    image: str | None,
    reference: Preprocessing | None,
) -> tuple[_Examples, Tensor, dict[str, Tensor]]:
    """Runs the model on an example input.

    Returns a function that creates examples, the example that was used, and its outputs. By default, the example has
    the size and number of channels that the pipeline produces. `reference` is the complete pipeline of a
    first-generation model, which normalizes images.

    Raises:
        DataError: The image cannot be read.
        ExportError: The model's data preprocessor has a step that cannot be exported, or the model cannot be run or
            returns different outputs each time.
    """
    source = image or _example_images((*preprocessing.image_size, 3)).to(torch.uint8).numpy()
    sample = preprocessing(source, 0, "example.png")
    images = first_view(sample)[None].float()
    preprocessor = getattr(module.model, "data_preprocessor", None)
    prepared: Tensor | None = None
    if reference is not None:
        prepared = first_view(reference(source, 0, "example.png"))[None]
    elif preprocessor is not None:
        batch = preprocessor(preprocessing.collate([sample]), False)
        if isinstance(batch, Mapping) and first_view(batch).dim() == 4:  # otherwise, the model prepares images
            prepared = first_view(batch)
    if prepared is not None and largest_difference([module.preprocess(images)], [prepared]) > LIMIT:
        name = f"'{type(preprocessor).__name__}'" if reference is None else "the pipeline"
        raise ExportError(
            f"the preprocessing of {name} cannot be exported",
            key="model.data_preprocessor" if reference is None else f"{reference.key}.pipeline",
            notes=["Only channel swapping, normalization and padding can be exported."],
        )
    examples = _example_images if image is None else partial(_example_images, image=images)
    is_detector = isinstance(module, ExportedDetector)
    sides = images.shape[2:] if size is None else tuple(check_count("--size", side) for side in size)
    for count in (1,) if is_detector else (2, 1):  # MMSegmentation's MaskFormer accepts only one image
        example = examples((count, images.shape[1], *sides))
        try:
            outputs = module.named_outputs(example)
            break
        except FootplateError:
            raise
        except Exception as error:
            if count == 2:
                continue
            key = "model" if size is None else "--size"
            raise export_error("the model cannot be run on an example input", error, key) from error
    if LIMIT < module.difference(module(example), list(outputs.values())) < float("inf"):  # infinite for NaN
        raise ExportError(
            "the model's outputs differ between two runs on the same input",
            key="model",
            notes=["Models that use random numbers to predict cannot be exported."],
        )
    return examples, example, outputs


def _channel_order(preprocessing: Preprocessing) -> str:
    """Returns "rgb" or "bgr", the order that the pipeline produces, or "" for images without three channels."""
    red = np.zeros((*preprocessing.image_size, 3), np.uint8)
    red[..., 0] = 255
    channels = first_view(preprocessing(red, 0, "example.png")).float()
    if len(channels) != 3:
        return ""
    return "rgb" if channels[0].mean() > channels[2].mean() else "bgr"


def _calls(steps: Sequence[Mapping[str, Any]]) -> str:
    """Formats transforms, e.g. as "Resize(scale=[1333, 800], keep_ratio=True)"."""
    calls = []
    for step in steps:
        arguments = ", ".join(f"{key}={value!r}" for key, value in step.items() if key != "type")
        calls.append(f"{name_of(step)}({arguments})")
    return ", ".join(calls)


def _example_images(shape: Sequence[int], image: Tensor | None = None) -> Tensor:
    """Returns images of random pixels. If `image` is set, it is resized and replaces the first image.

    `image` has shape ``(1, C, H, W)``, and `shape` is the shape of the result.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, tuple(shape), generator=generator).float()
    if image is not None:
        images[:1] = interpolate(image, images.shape[2:], mode="bilinear", antialias=True)
    return images


def _write(to: str, request: ExportRequest, examples: _Examples) -> tuple[dict[_Shape, float], int]:
    """Writes the exported file and tests it with examples of several batch sizes, heights and widths.

    Returns the difference for each tested input shape, and the required divisor of heights and widths.
    """
    images = request.images
    one_image = replace(request, images=images[:1], dims=())
    run = write_and_open(to, request, one_image)
    module: Any = request.module
    tested: dict[_Shape, float] = {}  # with the differences
    is_wrong = False

    def difference(shape: _Shape) -> float:
        inputs = examples(shape)
        outputs, expected = (list(named_outputs(call(inputs)).values()) for call in (run, module))
        return float(module.difference(outputs, expected))

    def supports(shape: _Shape) -> bool:
        try:
            found = difference(shape)
        except Exception:  # noqa: BLE001 - the model or the file does not support this size
            return False
        if tested and not found <= LIMIT:
            nonlocal is_wrong
            is_wrong = True
            return False
        tested[shape] = found
        return True

    count, channels, height, width = images.shape
    if count == 1 or not supports(tuple(images.shape)):  # then the batch size is fixed
        count = 1
        try:
            tested[count, channels, height, width] = difference((count, channels, height, width))
        except Exception as error:
            raise export_error(f"the {to} file cannot be run on the example input", error, "model") from error
    dims = tuple(request.dims)
    if 0 in dims and not supports((count + 1, channels, height, width)) and count > 1:
        return _write(to, replace(one_image, dims=dims[1:]), examples)

    def sizes(multiple: int) -> list[_Shape]:
        # An odd multiple of a power of two is not a multiple of any higher power.
        larger = [multiple * (side // multiple + 1 | 1) for side in (height, width)]
        # A model may have a branch for features with an odd height and width, so only one of the two becomes even.
        largest = [larger[0] + 2 * multiple, larger[1] + 4 * multiple]
        return [(1 if 0 in dims else count, channels, *size) for size in (larger, largest)]

    for multiple in _MULTIPLES if 2 in dims else ():
        passed = dict(tested)
        if all(map(supports, sizes(multiple))):
            return tested, multiple
        tested = passed
    if 2 in dims and (request.write or is_wrong):  # the file might accept other sizes but give wrong results
        return _write(to, replace(request, dims=dims[:-2]), examples)
    return tested, 1
