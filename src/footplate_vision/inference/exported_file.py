"""Writes exported files, and describes them."""

import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from traceback import extract_tb
from typing import NamedTuple

import torch

import footplate
from footplate import storage
from footplate.errors import ArgumentError, FootplateError
from footplate.messages import one_line
from footplate.tools.output_check import check_output
from footplate_vision.inference.export_formats import (
    FORMATS,
    ExportRequest,
    Run,
)

LIMIT = 1e-3
_OPERATOR = re.compile(r"\b(?:(?:aten|torchvision|prims|torch_nms|\w+_ops?)(?:::|\.)|mmcv::)[A-Za-z_]\w*(?:\.\w+)?")
_NODE = re.compile(r" '%.*?'(?: \(in .*?\))?(?= because)|\.* +(?:Please|\[Caused by) .*", re.DOTALL)
"""Matches the parts of torch's error messages that print graph nodes or ask the user to report the error."""
_PACKAGES = tuple(os.path.dirname(str(package.__file__)) + os.sep for package in (torch, footplate))
"""The folders of torch and footplate. Stack frames in any other file belong to the model."""


class Export(NamedTuple):
    """An exported file.

    Attributes:
        path: The path of the file.
        outputs: The shape of each output, keyed by output name. Dimensions that may vary are letters, such as "N", "H",
            "W" and "K".
        tested: The input shapes that the file was tested with.
        difference: The largest difference between the file's outputs and the model's.
        multiple: If the height and width of an input may vary, they must be multiples of this number.
        size: The size in bytes, including `data_files`.
        data_files: Files in the same folder that contain the weights of an ONNX model larger than 1.5 GiB.
        inputs: The shape of each input and a description of its values, keyed by input name.
        detections: The number of detections in the example, which is "K" in `outputs`. None if the outputs are not
            detections.
        compared: The number of detections with a score above 0.3, which were compared. If 0, only detections
            with a score above 90 % of the highest score were compared.
        sliding_window: The `crop_size` and `stride` if the model predicts in sliding windows, which the file does not.
            Empty if the model predicts whole images.
    """

    path: str
    outputs: Mapping[str, tuple[int | str, ...]]
    tested: list[tuple[int, ...]]
    difference: float
    multiple: int = 1
    size: int = 0
    data_files: Sequence[str] = ()
    inputs: Mapping[str, tuple[tuple[int | str, ...], str]] = {}
    detections: int | None = None
    compared: int = 0
    sliding_window: Mapping[str, tuple[int, int]] = {}


class ExportError(FootplateError):
    """Raised if a model cannot be exported, or if the exported file computes different outputs than the model."""


def check_target(target: str, suffixes: Sequence[str], *, inputs: Sequence[str] = (), opset: int | None = None) -> None:
    """Checks the target path and the opset of an export.

    Raises:
        ArgumentError: The target is not a local file with one of the suffixes, is also an input, or has an opset
            although its format is not ONNX.
    """
    check_output(target, suffixes=suffixes, inputs=inputs)
    if not storage.is_local(target):
        raise ArgumentError("the output must be a local file", found=target)
    if opset is not None and not target.endswith(FORMATS["onnx"].suffix):
        raise ArgumentError("an opset can be set only for ONNX", key="opset")


def write_and_open(to: str, request: ExportRequest, fixed: ExportRequest) -> Run:
    """Writes an exported file in the format `to`, and returns a function that runs the file.

    Tries `request`, which has dynamic shapes, and falls back to `fixed`, which has fixed shapes.

    Raises:
        ExportError: The module cannot be exported, or the file cannot be opened.
    """
    try:
        (request.write or FORMATS[to].write)(request)
    except FootplateError:
        raise
    except Exception:  # noqa: BLE001 - some models can only be exported for a fixed size
        try:
            (fixed.write or FORMATS[to].write)(fixed)
        except Exception as error:
            raise export_error(f"the model cannot be exported to {to}", error) from error
    try:
        return FORMATS[to].open(request.path)
    except FootplateError:
        raise
    except Exception as error:  # for example, if the runtime does not support an operator
        raise export_error(f"the {to} file cannot be opened", error) from error


@contextmanager
def temporary_file(target: str) -> Iterator[str]:
    """Creates a temporary folder next to `target`, and yields a path inside it with the same file name."""
    folder = os.path.dirname(os.path.abspath(target))
    os.makedirs(folder, exist_ok=True)
    try:
        temporary_folder = tempfile.TemporaryDirectory(prefix=".export-", dir=folder)
    except OSError as error:
        error.filename = target
        raise
    with temporary_folder as temporary:
        yield os.path.join(temporary, os.path.basename(target))


def keep_file(export: Export, path: str, to: str) -> Export:
    """Moves an exported file and its data files from a temporary folder to the target folder.

    Args:
        export: The export to move.
        path: The temporary file.
        to: The format.

    Returns:
        The export with its size and data files.

    Raises:
        ExportError: The file computes different outputs than the model.
    """
    if not export.difference <= LIMIT:
        raise ExportError(
            f"the {to} file was discarded: its outputs differ from the model's by {export.difference:.2g}, "
            f"more than {LIMIT:g}",
            notes=[
                f"Inputs: {format_shapes(export.tested)}.",
                "Models that select candidates by score, such as DETR, may select others if scores are equal, as they "
                "often are before training. Export a trained model, or use another example (--image FILE).",
            ],
        )
    temporary, name = os.path.split(path)
    written = sorted(os.listdir(temporary), key=name.__eq__)  # the file itself comes last
    files = [os.path.join(os.path.dirname(export.path), file_name) for file_name in written]
    for file_name, file in zip(written, files, strict=True):
        os.replace(os.path.join(temporary, file_name), file)
    return export._replace(size=sum(map(os.path.getsize, files)), data_files=files[:-1])


def name_dims(
    shape: Sequence[int], tested: Sequence[tuple[int, ...]], last: Sequence[int] | None = None
) -> tuple[int | str, ...]:
    """Replaces the batch size, the height and the width in a shape with letters if they vary in the tested inputs.

    Replaces other dimensions with "?" if they differ in `last`, the shape for the last tested input.
    """
    first = tested[0]
    named = list[int | str](shape)
    if last is not None and len(last) == len(shape):
        named = [size if size == other else "?" for size, other in zip(shape, last, strict=True)]
    if len({size[:1] for size in tested}) > 1 and shape[:1] == first[:1]:
        named[0] = "N"
    if len({size[2:] for size in tested}) > 1 and shape[-2:] == first[-2:]:
        named[-2:] = "H", "W"
    return tuple(named)


def format_shapes(shapes: Sequence[tuple[int, ...]]) -> str:
    """Formats input shapes, e.g. as "3x32x32, 1x32x32"."""
    return ", ".join("x".join(map(str, shape)) for shape in shapes)


def export_error(problem: str, error: Exception, key: str = "") -> ExportError:
    """Returns an error with `problem`, its cause and, if known, the operator and the line of model code that failed."""
    cause: BaseException = error
    lines: list[str] = []
    while True:
        calls = [call for call in extract_tb(cause.__traceback__) if not call.filename.startswith((*_PACKAGES, "<"))]
        lines += [f"at {os.path.relpath(call.filename)}:{call.lineno}: {call.line}" for call in calls[-1:]]
        inner = cause.__cause__ or cause.__context__
        if inner is None:
            break
        cause = inner
    operator = _OPERATOR.search(str(error)) or _OPERATOR.search(str(cause))
    notes = [*([f"operator {operator[0]}"] if operator else []), *lines[:1]]
    reason = one_line(_NODE.sub("", f"{type(cause).__name__}: {cause}"))[:160]
    return ExportError(f"{problem}: {reason}", key=key, notes=notes, shows_cause=not notes)
