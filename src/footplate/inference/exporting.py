"""Exports a trained model to other formats, and verifies each file by running it."""

import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from traceback import extract_tb
from typing import Any, NamedTuple

import torch
from torch import Tensor

from footplate import storage
from footplate.checkpoint import export_weights
from footplate.checks import check_choice, check_count
from footplate.error_context import add_note, located
from footplate.errors import ArgumentError, FootplateError
from footplate.inference.export_formats import (
    FORMATS,
    INPUT,
    ExportedModel,
    ExportFormat,
    Request,
    exportable_operators,
    largest_difference,
)
from footplate.inference.trained_model import Preprocessing, TrainedModel
from footplate.messages import format_bytes, labeled, one_line
from footplate.openmmlab.first_generation.adapters.model import legacy_model_in
from footplate.registry import using_scope

SAFETENSORS = "safetensors"
NAMES = (*FORMATS, SAFETENSORS)
_LIMIT = 1e-3
_MULTIPLES = (1, 2, 4, 8, 16, 32, 64)
_OPERATOR = re.compile(r"\b(?:aten|torchvision|prims|torch_nms|mmcv|\w+_ops?)(?:::|\.)[A-Za-z_]\w*(?:\.\w+)?")
_LIBRARIES = (os.path.dirname(torch.__file__) + os.sep, os.path.dirname(os.path.abspath(__file__)) + os.sep)
_CPU = torch.device("cpu")


class Export(NamedTuple):
    """An exported file.

    Attributes:
        path: The file.
        outputs: Maps the name of each output to its shape for the first tested input. Empty if the file contains only
            weights.
        tested: The shapes of the inputs with which the file was run. Empty if the file contains only weights.
        difference: The largest difference between the outputs of the file and of the model.
        multiple: The number of which the height and the width of an input must be multiples, if they may vary.
        size: The size in bytes, including `data_files`.
        data_files: The files in the same folder with the weights of an ONNX model larger than 1.5 GiB.
    """

    path: str
    outputs: dict[str, tuple[int, ...]]
    tested: list[tuple[int, ...]]
    difference: float
    multiple: int = 1
    size: int = 0
    data_files: Sequence[str] = ()


def export_model(
    trained: TrainedModel,
    target: str,
    to: str,
    *,
    opset: int | None = None,
    size: Sequence[int] | None = None,
) -> Export:
    """Writes a model with its preprocessing and postprocessing to a file, and runs the file to verify it.

    The input of the exported model is named `images`. It is a float32 tensor ``(N, C, H, W)`` with values from 0 to
    255, in the channel order and at the size that the pipeline produces. A safetensors file contains only the weights.

    Args:
        trained: The model.
        target: The file to write.
        to: The format, one of `NAMES`.
        opset: The ONNX opset version; only for the format "onnx".
        size: Height and width of the example input. By default, those of an example image after the pipeline.

    Raises:
        ArgumentError: The format is unknown, `target` is not a local file with the suffix of the format, or the format
            does not support an option.
        ExportError: The model cannot be exported, or the outputs of the file differ from those of the model.
        MissingExtraError: A package that the format needs is not installed.
    """
    storage.check_output(target, suffixes=[_suffix(to)], inputs=[trained.path])
    if not storage.is_local(target):
        raise ArgumentError("the output must be a local file", found=target)
    if opset is not None and to != "onnx":
        raise ArgumentError("an opset can be set only for ONNX", key="--opset", found=opset)
    trained = trained.prepared()
    trained.cfg["compile"] = False
    model = trained.build(_CPU)
    if to != SAFETENSORS and legacy_model_in(model) is not None:
        raise ExportError(
            f"a model of the first generation cannot be exported to {to}", key="model", notes=["Use --to safetensors."]
        )
    with located(trained.cfg), using_scope(trained.cfg.get("default_scope")), exportable_operators():
        folder = os.path.dirname(os.path.abspath(target))
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as temporary:
            path = os.path.join(temporary, os.path.basename(target))
            if to == SAFETENSORS:
                export_weights(trained.path, path)
                export = Export(target, {}, [], 0.0)
            else:
                module = ExportedModel(model).eval()
                images, outputs = _run_example(trained, module, size)
                metainfo = {"classes": json.dumps([str(name) for name in trained.metainfo.get("classes") or ()])}
                request = Request(module, images, list(outputs), path, metainfo, opset)
                shapes = {name: tuple(output.shape) for name, output in outputs.items()}
                export = Export(target, shapes, *_write(FORMATS[to], request, to))
            if not export.difference <= _LIMIT:
                raise ExportError(
                    f"the {to} file was discarded: it differs from the model by {export.difference:.2g}, more than "
                    f"{_LIMIT:g}",
                    notes=[f"Inputs: {_shapes(export.tested)}."],
                )
            written = sorted(os.listdir(temporary), key=os.path.basename(target).__eq__)  # the file itself comes last
            for name in written:
                os.replace(os.path.join(temporary, name), os.path.join(folder, name))
    files = [os.path.join(os.path.dirname(target), name) for name in reversed(written)]
    return export._replace(size=sum(map(os.path.getsize, files)), data_files=files[1:])


def output_path_of(checkpoint: str, to: str) -> str:
    """Returns the path of a checkpoint with the suffix of an export format.

    Raises:
        ArgumentError: The format is unknown.
    """
    return os.path.splitext(checkpoint)[0] + _suffix(to)


def describe_export(export: Export) -> str:
    """Describes an export as text."""
    lines = [f"{' and '.join([export.path, *export.data_files])}: {format_bytes(export.size)}"]
    if export.outputs:
        count, channels, height, width = export.tested[0]
        batch = "N" if len({shape[0] for shape in export.tested}) > 1 else count
        size = "H, W" if len({shape[2:] for shape in export.tested}) > 1 else f"{height}, {width}"
        lines.append(labeled("input", f"{INPUT} ({batch}, {channels}, {size}), float32, 0 to 255"))
        if export.multiple > 1:
            lines.append(labeled("sizes", f"height and width must be multiples of {export.multiple}"))
        for name, shape in export.outputs.items():
            sizes = [batch, *map(str, shape[1:])]
            if size == "H, W" and shape[-2:] == (height, width):
                sizes[-2:] = ["H", "W"]
            lines.append(labeled("output", f"{name} ({', '.join(map(str, sizes))})"))
        tested = f"tested with inputs of {_shapes(export.tested)}"
        lines.append(labeled("difference", f"at most {export.difference:.2g}, {tested}"))
    return "\n".join(lines) + "\n"


def _shapes(shapes: Sequence[tuple[int, ...]]) -> str:
    return ", ".join("x".join(map(str, shape)) for shape in shapes)


def _suffix(to: str) -> str:
    check_choice("--to", to, NAMES)
    return f".{SAFETENSORS}" if to == SAFETENSORS else FORMATS[to].suffix


class ExportError(FootplateError):
    """A model cannot be exported, or the outputs of the exported file differ from those of the model."""


def _run_example(
    trained: TrainedModel, module: ExportedModel, size: Sequence[int] | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Returns an example input and the outputs of the model for it.

    The input consists of random pixels. It has the number of channels and the size that the pipeline produces.

    Raises:
        ExportError: The data preprocessor of the model has a step that cannot be exported, or the model cannot be run.
    """
    preprocessing = Preprocessing(trained.cfg)
    pixels = _random_images((*preprocessing.image_size, 3)).to(torch.uint8).numpy()
    samples = [preprocessing(pixels, index, "example.png") for index in range(2)]
    images = torch.stack(list(map(_first_view, samples))).float()
    preprocessor = getattr(module.model, "data_preprocessor", None)
    batch = None if preprocessor is None else preprocessor(preprocessing.collate(samples), False)
    if isinstance(batch, Mapping) and _first_view(batch).dim() == 4:  # otherwise, the model prepares the images
        difference = largest_difference([module.preprocess(images)], [_first_view(batch)])
        if difference > _LIMIT:
            raise ExportError(
                f"the preprocessing of '{type(preprocessor).__name__}' cannot be exported",
                key="model.data_preprocessor",
                notes=["Only channel swapping, normalization and padding can be exported."],
            )
    height, width = images.shape[-2:] if size is None else [check_count("--size", side) for side in size]
    images = _random_images((2, images.shape[1], height, width))
    try:
        outputs = module.named_outputs(images)
    except Exception as error:
        key = "model" if size is None else "--size"
        failed = _export_error("the model cannot be run on an example input", error, key)
        if "NoneType" in str(error):
            add_note(failed, "An export runs mode='tensor' without data samples, which this model seems to need.")
        raise failed from error
    if not outputs:
        raise ExportError(f"the model '{type(module.model).__name__}' returns no tensors", key="model")
    return images, outputs


def _first_view(sample: Any) -> Tensor:
    """Returns the image of a sample or the images of a batch. With several views, returns the first view."""
    inputs: Any = sample["inputs"] if isinstance(sample, Mapping) else sample[0]
    return inputs[0] if isinstance(inputs, (list, tuple)) else inputs  # type: ignore[no-any-return]


def _random_images(shape: Sequence[int]) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, tuple(shape), generator=generator).float()


def _write(format_: ExportFormat, request: Request, name: str) -> tuple[list[tuple[int, ...]], float, int]:
    """Writes a file and tests it with other batch sizes, heights and widths.

    Returns the shapes of the tested inputs, the largest difference, and the number of which heights and widths must be
    multiples.

    If the model cannot be exported with dynamic shapes, uses the shapes of the example.
    """
    try:
        try:
            format_.write(request)
        except ArgumentError:
            raise
        except Exception:  # noqa: BLE001 - some models can only be exported for one size
            format_.write(replace(request, is_dynamic=False))
    except FootplateError:
        raise
    except Exception as error:
        raise _export_error(f"the model cannot be exported to {name}", error) from error
    run = format_.open(request.path)
    tested: list[tuple[int, ...]] = []
    differences = []

    def supports(shape: tuple[int, ...]) -> bool:
        images = _random_images(shape)
        try:
            expected = request.module(images)
            difference = largest_difference(run(images), expected)
        except Exception:  # noqa: BLE001 - the model or the file does not support this size
            return False
        if tested and name == "torchscript" and difference > _LIMIT:
            return False  # a trace may contain the size of its example
        tested.append(shape)
        differences.append(difference)
        return True

    count, channels, height, width = request.images.shape
    if not supports((count, channels, height, width)):
        raise ExportError(f"the {name} file cannot be run on the example input")
    supports((count + 1, channels, height, width))
    # Sizes that are odd multiples of a number, and therefore multiples of no higher power of two.
    for multiple in _MULTIPLES:
        if supports((1, channels, *(multiple * (side // multiple + 1 | 1) for side in (height, width + multiple)))):
            return tested, max(differences), multiple
    return tested, max(differences), 1


def _export_error(problem: str, error: Exception, key: str = "") -> ExportError:
    """Returns an error with the original cause, the unsupported operator, and the line of the model that calls it."""
    cause: BaseException = error
    lines: list[str] = []
    while True:
        calls = [call for call in extract_tb(cause.__traceback__) if not call.filename.startswith((*_LIBRARIES, "<"))]
        lines += [f"at {os.path.relpath(call.filename)}:{call.lineno}: {call.line}" for call in calls[-1:]]
        inner = cause.__cause__ or cause.__context__
        if inner is None:
            break
        cause = inner
    operator = _OPERATOR.search(str(error)) or _OPERATOR.search(str(cause))
    notes = [*([f"operator {operator[0]}"] if operator else []), *lines[:1]]
    reason = one_line(f"{type(cause).__name__}: {cause}")[:160]
    return ExportError(f"{problem}: {reason}", key=key, notes=notes, hides_cause=not notes)
