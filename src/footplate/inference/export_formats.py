"""The export formats: functions that write a module to a file and load the file to run it."""

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from footplate.errors import ArgumentError, import_optional
from footplate.inference.exported_model import ExportedModel

Run = Callable[[Tensor], Sequence[Tensor]]
INPUT = "images"
_ONNX = "exporting to ONNX"  # the reason for importing optional packages
_DYNAMIC = {0: torch.export.Dim.AUTO, 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}


@dataclass(frozen=True)
class Request:
    """A request to export a module.

    Args:
        module: The module, in evaluation mode on the CPU.
        images: An example input.
        names: The names of the outputs.
        path: The file to write.
        metainfo: Metadata to store in the file, such as the classes.
        opset: The ONNX opset version, or None for the default.
        is_dynamic: Whether the batch size, height and width of the input may vary, if the model supports it.
    """

    module: ExportedModel
    images: Tensor
    names: Sequence[str]
    path: str
    metainfo: Mapping[str, str]
    opset: int | None = None
    is_dynamic: bool = True


class ExportFormat(NamedTuple):
    """An export format: its file suffix, and functions that write a file and open it for inference."""

    suffix: str
    write: Callable[[Request], None]
    open: Callable[[str], Run]


def _trace(request: Request) -> Any:
    shapes = {INPUT: _DYNAMIC} if request.is_dynamic else None
    return torch.export.export(request.module, (request.images,), dynamic_shapes=shapes)


def _write_onnx(request: Request) -> None:
    import_optional("onnxscript", extra="export", why=_ONNX)
    program = torch.onnx.export(
        _trace(request),
        (),
        dynamo=True,
        input_names=[INPUT],
        output_names=list(request.names),
        opset_version=request.opset,
        verbose=False,
    )
    assert program is not None
    written = program.model.opset_imports.get("")
    if request.opset not in (None, written):  # torch only warns
        raise ArgumentError(
            f"the model cannot be exported with opset {request.opset}",
            key="--opset",
            notes=[f"Use opset {written}."],
        )
    program.model.metadata_props.update(request.metainfo)
    program.save(request.path)


def _open_onnx(path: str) -> Run:
    runtime = import_optional("onnxruntime", extra="export", why=_ONNX)
    options = runtime.SessionOptions()
    options.log_severity_level = 4  # an exception reports a size that the model does not support
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda images: [torch.from_numpy(each) for each in session.run(None, {INPUT: images.numpy()})]


def _write_torch_export(request: Request) -> None:
    torch.export.save(_trace(request), request.path, extra_files={"metainfo.json": json.dumps(dict(request.metainfo))})


def _write_torchscript(request: Request) -> None:
    traced = torch.jit.trace(request.module, request.images, check_trace=False)  # type: ignore[no-untyped-call]
    torch.jit.save(traced, request.path, _extra_files={"metainfo.json": json.dumps(dict(request.metainfo))})


FORMATS: Mapping[str, ExportFormat] = {
    "onnx": ExportFormat(".onnx", _write_onnx, _open_onnx),
    "torch-export": ExportFormat(".pt2", _write_torch_export, lambda path: torch.export.load(path).module()),
    "torchscript": ExportFormat(".pt", _write_torchscript, torch.jit.load),
}


@contextmanager
def exportable_operators() -> Iterator[None]:
    """Disables fused transformer layers, which cannot be exported. Suppresses tracer warnings."""
    outer = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    logger = logging.getLogger("torch.onnx")  # warns about packages that the model does not use
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(outer)
        logger.setLevel(level)
