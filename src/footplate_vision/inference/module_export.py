"""Exports modules to other formats and verifies the files by running them."""

import copy
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from traceback import extract_tb
from typing import Any, NamedTuple

import torch
from torch import nn

import footplate
from footplate import storage
from footplate.data import preserve_random_state
from footplate.distributed.sharding import is_sharded
from footplate.engine import Runner
from footplate.errors import ArgumentError, FootplateError
from footplate.messages import one_line
from footplate.models import trained_model
from footplate.tools.output_check import check_output
from footplate_vision.inference.example_inputs import Inputs, inputs_of, named_tensors
from footplate_vision.inference.export_formats import (
    FORMATS,
    ExportRequest,
    Run,
    difference_of,
    exportable_operators,
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
        tested: The input shapes that the file was tested with. If the model has several inputs, these are the shapes of
            the first one.
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


def export_module(
    module: nn.Module,
    path: "str | os.PathLike[str]",
    example: Any,
    *,
    opset: int | None = None,
    weights: Mapping[str, Any] | None = None,
) -> Export:
    """Writes a module to a file, and runs the file to verify it.

    The file computes the same outputs as the module in evaluation mode. Its inputs may vary in size along every
    dimension where the module supports it. The module itself is not modified.

    Args:
        module: Any torch module.
        path: The file to write. Its suffix selects the format: `.onnx` or `.pt2` (torch.export).
        example: An example input: a tensor, a tuple of positional arguments or a dict of keyword arguments.
        opset: The ONNX opset version; only for `.onnx`.
        weights: A state dict to export instead of the module's.

    Raises:
        ArgumentError: `path` is not a local file with one of these suffixes, the module does not accept the example, or
            `opset` is set for `.pt2`.
        ExportError: The module cannot be exported, or the file computes different outputs than the module.
        MissingExtraError: A package that the format requires is not installed.
    """
    target = os.fspath(path)
    check_target(target, [form.suffix for form in FORMATS.values()], opset=opset)
    kwargs = example if isinstance(example, Mapping) else {}
    args = () if kwargs else tuple(example) if isinstance(example, (list, tuple)) else (example,)
    to = next(name for name, form in FORMATS.items() if target.endswith(form.suffix))
    module = copy.deepcopy(module).cpu().eval()
    if weights is not None:
        module.load_state_dict(weights)
    return export_call(module, target, args, kwargs, to=to, opset=opset)


def export_run(runner: Runner, path: "str | os.PathLike[str]", example: Any, *, opset: int | None = None) -> Export:
    """Exports the model of a run like `export_module`, with the weights that a checkpoint would contain.

    For example, these are the averaged weights if the run has an EMAHook.

    Args:
        runner: The run.
        path: The file to write; see `export_module`.
        example: An example input; see `export_module`.
        opset: The ONNX opset version; only for `.onnx`.

    Raises:
        ArgumentError: See `export_module`, or the model is sharded.
        ExportError: See `export_module`.
        MissingExtraError: See `export_module`.
    """
    model = trained_model(runner.model)
    if is_sharded(model):
        raise ArgumentError("a sharded model cannot be exported", notes=["Export a checkpoint of the run instead."])
    checkpoint = {"state_dict": model.state_dict()}
    if hook := runner.hooks.swapping:
        hook.before_save_checkpoint(runner, checkpoint)
    return export_module(model, path, example, opset=opset, weights=checkpoint["state_dict"])


@preserve_random_state()
def export_call(
    module: nn.Module,
    target: str,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    to: str,
    opset: int | None = None,
) -> Export:
    """Exports a module that is called as `module(*args, **kwargs)`; see `export_module`.

    Args:
        module: The module, in evaluation mode on the CPU.
        target: The file to write; see `check_target`.
        args: The positional arguments of an example call.
        kwargs: The keyword arguments of an example call.
        to: The format, one of `FORMATS`.
        opset: The ONNX opset version.

    Raises:
        ArgumentError: See `export_module`.
        ExportError: See `export_module`.
    """
    inputs = inputs_of(module, args, kwargs)
    count = inputs.batch_size
    with exportable_operators():
        try:
            outputs = named_tensors("output", module(*inputs.args, **inputs.kwargs))
        except Exception as error:
            raise export_error("the model cannot be run on the example input", error, "example") from error
        if not outputs:
            raise ExportError(f"the model '{type(module).__name__}' returns no tensors", key="model")
        taken = inputs.tensors()
        names = [f"output_{name}" if name in taken else name for name in outputs]
        with temporary_file(target) as path:
            # Tracing with a single sample would fix the batch size.
            traced = inputs.resized(2) if count == 1 else inputs
            request = ExportRequest(module, traced, names, path, {}, opset)
            fixed = replace(request, inputs=inputs, dims=())
            tested = _compare(write_and_open(to, request, fixed), module, inputs, to)
            if not tested:  # for example, because the model uses `len(batch)`, which becomes a constant in the file
                tested = _compare(write_and_open(to, fixed, fixed), module, inputs, to, is_last=True)
            first, last = tested[0][0], tested[-1][0]
            outputs = named_tensors("output", module(*first.args, **first.kwargs))
            others = named_tensors("output", module(*last.args, **last.kwargs))
            shapes = [tuple(next(iter(tested_inputs.tensors().values())).shape) for tested_inputs, _ in tested]
            export = Export(
                target,
                {
                    name: name_dims(output.shape, shapes, others[key].shape)
                    for name, (key, output) in zip(names, outputs.items(), strict=True)
                },
                shapes,
                max(difference for _, difference in tested),
                inputs={
                    name: (name_dims(tensor.shape, shapes), str(tensor.dtype)[6:])
                    for name, tensor in first.tensors().items()
                },
            )
            return keep_file(export, path, to)


def _compare(
    run: Run, module: nn.Module, inputs: Inputs, to: str, *, is_last: bool = False
) -> list[tuple[Inputs, float]]:
    """Compares an exported file with the module. Returns a pair for each tested input: the input, and the difference.

    Returns an empty list if the file cannot be run on the example or differs too much, so that the caller can try
    another export. If `is_last` is True, raises an error or returns the large difference instead.

    Raises:
        ExportError: The file cannot be run on the example, and `is_last` is True.
    """
    tested = []
    count = inputs.batch_size
    # Try a larger batch first: with one sample, the batch dimension looks like any other dimension of size 1.
    batch = inputs.resized(max(count, 2) + 1) if count else None
    for tried in filter(None, (batch, inputs, inputs.with_larger_images())):
        try:
            difference = difference_of(run, module, tried)
        except Exception as error:  # the model or the file does not support this size
            if tried is not inputs:
                continue
            if not is_last:
                return []
            raise export_error(f"the {to} file cannot be run on the example input", error) from error
        if tried is inputs and not is_last and not difference <= LIMIT:  # the difference may be NaN
            return []
        if tried is inputs or tried is batch or difference <= LIMIT:
            tested.append((tried, difference))
    return tested


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
