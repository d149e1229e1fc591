"""Exports a trained model to other formats, and verifies each file by running it."""

import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from traceback import extract_tb, walk_tb
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from footplate import storage
from footplate.checkpoint import export_weights, load_weights
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
        size: The size in bytes, including `data_files`.
        outputs: Maps the name of each output to its shape for the first tested input. Empty if the file contains only
            weights.
        tested: The shapes of the inputs with which the file was run. Empty if the file contains only weights.
        difference: The largest difference between the outputs of the file and of the model, or between their weights.
        multiple: The number of which the height and the width of an input must be multiples, if they may vary.
        data_files: The files in the same folder with the weights of an ONNX model larger than 1.5 GiB.
    """

    path: str
    size: int
    outputs: dict[str, tuple[int, ...]]
    tested: list[tuple[int, ...]]
    difference: float
    multiple: int = 1
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
        outputs: dict[str, Tensor] = {}
        tested: list[tuple[int, ...]] = []
        multiple = 1
        if to != SAFETENSORS:
            module = ExportedModel(model).eval()
            images, outputs = _run_example(trained, module, size)
        folder = os.path.dirname(os.path.abspath(target))
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as temporary:
            path = os.path.join(temporary, os.path.basename(target))
            if to == SAFETENSORS:
                difference = _write_weights(trained, model, path)
            else:
                metainfo = {"classes": json.dumps([str(each) for each in trained.metainfo.get("classes") or ()])}
                request = Request(module, images, list(outputs), path, metainfo, opset)
                tested, difference, multiple = _write(FORMATS[to], request, to)
            if not difference <= _LIMIT:
                raise ExportError(
                    f"the {to} file was discarded: it differs from the model by {difference:.2g}, more than {_LIMIT:g}",
                    notes=[f"Inputs: {_shapes(tested)}."] if tested else [],
                )
            written = sorted(os.listdir(temporary), key=os.path.basename(target).__eq__)  # the file itself comes last
            for name in written:
                os.replace(os.path.join(temporary, name), os.path.join(folder, name))
    files = [os.path.join(os.path.dirname(target), name) for name in reversed(written)]
    shapes = {name: tuple(each.shape) for name, each in outputs.items()}
    return Export(target, sum(map(os.path.getsize, files)), shapes, tested, difference, multiple, files[1:])


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
    compared = f", tested with inputs of {_shapes(export.tested)}" if export.tested else " between the weights"
    lines.append(labeled("difference", f"at most {export.difference:.2g}{compared}"))
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
    images = torch.stack([_first_view(each) for each in samples]).float()
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
    height, width = images.shape[-2:] if size is None else [check_count("--size", each) for each in size]
    images = _random_images((2, images.shape[1], height, width))
    try:
        outputs = module.named_outputs(images)
    except Exception as error:
        key = "model" if size is None else "--size"
        failed = _export_error("the model cannot be run on an example input", module.model, error, key)
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
        except FootplateError:
            raise
        except Exception:  # noqa: BLE001 - some models can only be exported for one size
            format_.write(replace(request, is_dynamic=False))
    except FootplateError:
        raise
    except Exception as error:
        raise _export_error(f"the model cannot be exported to {name}", request.module.model, error) from error
    run = format_.open(request.path)
    shape = tuple(request.images.shape)
    difference = largest_difference(run(request.images), request.module(request.images))
    tested = [shape]

    def supports(other: tuple[int, ...]) -> bool:
        nonlocal difference
        images = _random_images(other)
        try:
            wanted = request.module(images)
            found = run(images)
        except Exception:  # noqa: BLE001 - the model or the file does not support this size
            return False
        if name == "torchscript" and largest_difference(found, wanted) > _LIMIT:
            return False  # a trace may contain the size of its example
        tested.append(other)
        difference = max(difference, largest_difference(found, wanted))
        return True

    supports((shape[0] + 1, *shape[1:]))
    # Sizes that are odd multiples of a number, and therefore multiples of no higher power of two.
    sizes = ((each, [each * (side // each + 1 | 1) for side in (shape[2], shape[3] + each)]) for each in _MULTIPLES)
    multiple = next((each for each, size in sizes if supports((1, shape[1], *size))), 1)
    return tested, difference, multiple


def _write_weights(trained: TrainedModel, model: nn.Module, target: str) -> float:
    """Writes only the weights. Returns the largest difference between them and the weights that a new model loads."""
    export_weights(trained.path, target)
    again = trained.build(_CPU)
    for each in again.parameters():
        nn.init.zeros_(each)
    load_weights(again, target).require_whole_model()
    weights = [
        {name: each for name, each in built.state_dict().items() if isinstance(each, Tensor)}
        for built in (again, model)
    ]
    return largest_difference(*(list(each.values()) for each in weights))


def _export_error(problem: str, model: nn.Module, error: Exception, key: str = "") -> ExportError:
    """Returns an error that names the unsupported operator, and the line and the module that call it."""
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and cause not in causes:
        causes.append(cause)
    text = "\n".join(str(each) for each in causes)
    operator = _OPERATOR.search(text)
    notes = [f"operator {operator[0]}"] if operator else []
    place = next((found for each in causes if (found := _place(model, each))), "")
    notes += [place] if place else []
    reason = one_line(f"{type(causes[-1]).__name__}: {causes[-1]}")[:160]
    return ExportError(f"{problem}: {reason}", key=key, notes=notes, hides_cause=not notes)


def _place(model: nn.Module, error: BaseException) -> str:
    """Describes the location of an error: the module that was running, and the innermost line outside torch."""
    frames: list[Any] = [frame for frame, _ in walk_tb(error.__traceback__)]
    names = {id(each): name for name, each in model.named_modules()}
    running = [frame.f_locals.get("self") for frame in frames]
    modules = [names[id(each)] for each in running if id(each) in names]
    lines = [each for each in extract_tb(error.__traceback__) if not each.filename.startswith(_LIBRARIES)]
    lines = [each for each in lines if not each.filename.startswith("<")]
    if not modules or not lines:
        return ""
    module = f"in {modules[-1]}, " if modules[-1] else ""
    return f"{module}at {os.path.relpath(lines[-1].filename)}:{lines[-1].lineno}: {lines[-1].line}"
