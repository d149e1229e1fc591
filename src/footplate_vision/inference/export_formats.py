"""Defines the export formats, and how to write and run files in each format."""

import json
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from footplate.errors import ArgumentError, import_optional
from footplate.tools.memory_use import tensors_in

INPUT = "images"
"""The name of the input of an exported file."""
Run = Callable[[Tensor], Any]
"""A function that returns the outputs for a batch of images."""
_MAX_FORMULA_LENGTH = 250
_ONNX = "exporting to ONNX"  # why optional packages are imported, for error messages


@dataclass(frozen=True)
class ExportRequest:
    """The module, file and settings for an export.

    Args:
        module: The module, in evaluation mode on the CPU.
        images: Example images ``(N, C, H, W)``.
        names: The names of the outputs.
        path: The file to write.
        metainfo: Metadata to store in the file, e.g. the classes.
        opset: The ONNX opset version, or None for the default.
        dims: The dimensions of the images that may vary if the model supports it.
        write: A function that writes the file. None means the format's own function.
    """

    module: nn.Module
    images: Tensor
    names: Sequence[str]
    path: str
    metainfo: dict[str, str]
    opset: int | None = None
    dims: Sequence[int] = ()
    write: "Callable[[ExportRequest], None] | None" = None


class ExportFormat(NamedTuple):
    """An export format: its file suffix, and functions to write a file and open it for inference."""

    suffix: str
    write: Callable[[ExportRequest], None]
    open: Callable[[str], Run]


def _trace(request: ExportRequest) -> Any:
    images = request.images.clone()  # torch marks the tensor as dynamic, even if the trace fails
    dynamic_shapes = (dict.fromkeys(request.dims, torch.export.Dim.AUTO),) if request.dims else None
    handle = nn.modules.module.register_module_forward_pre_hook(_limit_formulas)
    try:
        return torch.export.export(request.module, (images,), dynamic_shapes=dynamic_shapes)
    finally:
        handle.remove()


def _limit_formulas(module: nn.Module, args: tuple[Any, ...]) -> None:
    """Raises an error if a tensor size is a long formula of the input sizes, which would make tracing very slow.

    For example, each block of a Swin Transformer pads the features to a multiple of the window size.
    """
    for tensor in args:
        if isinstance(tensor, Tensor) and any(len(str(size)) > _MAX_FORMULA_LENGTH for size in tensor.shape):
            raise ValueError(f"the sizes in '{type(module).__name__}' depend on the input sizes in a complicated way")


def _write_onnx(request: ExportRequest) -> None:
    import_optional("onnxscript", extra="export", why=_ONNX)
    exported = _trace(request)
    pooling = torch.ops.aten.adaptive_avg_pool2d.default
    if any(node.target is pooling and set(node.args[1]) != {1} for node in exported.graph.nodes):
        exported = exported.run_decompositions({pooling: adaptive_avg_pool2d})
    program = torch.onnx.export(
        exported,
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
            f"the model cannot be exported with opset {request.opset}", key="opset", notes=[f"Use opset {written}."]
        )
    for value in program.model.graph.inputs:  # torch writes fixed dimensions as names, which would accept other sizes
        shape: Any = value.shape
        for dim, length in enumerate(map(str, shape)):
            if length.isdecimal():
                shape[dim] = int(length)
    program.model.metadata_props.update(request.metainfo)
    program.save(request.path)


def adaptive_avg_pool2d(images: Tensor, output_size: Any) -> Tensor:
    """Applies adaptive average pooling to images of shape ``(..., H, W)``, as a matrix multiplication.

    The exported graph accepts any input size, unlike a graph with torch's decomposition of this operator.
    """
    output_size = (output_size, output_size) if isinstance(output_size, int) else output_size
    if all(count == 1 for count in output_size):
        return images.mean((-2, -1), keepdim=True)
    matrices: list[Tensor] = []
    for size, count in zip(images.shape[-2:], output_size, strict=True):
        index = torch.arange(count)[:, None]
        position = torch.arange(size)
        is_inside = (position >= index * size // count) & (position < ((index + 1) * size + count - 1) // count)
        matrices.append(is_inside.to(images.dtype) / is_inside.sum(1, keepdim=True))
    return matrices[0] @ images @ matrices[1].T


def _open_onnx(path: str) -> Run:
    runtime = import_optional("onnxruntime", extra="export", why=_ONNX)
    options = runtime.SessionOptions()
    options.log_severity_level = 4  # unsupported sizes raise an exception
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    return lambda images: [torch.from_numpy(output) for output in session.run(None, {INPUT: images.numpy()})]


def _write_torch_export(request: ExportRequest) -> None:
    torch.export.save(_trace(request), request.path, extra_files={"metainfo.json": json.dumps(request.metainfo)})


FORMATS: Mapping[str, ExportFormat] = {
    "onnx": ExportFormat(".onnx", _write_onnx, _open_onnx),
    "torch-export": ExportFormat(".pt2", _write_torch_export, lambda path: torch.export.load(path).module()),
}


@contextmanager
def exportable_operators() -> Iterator[None]:
    """Disables gradients, warnings and fused transformer layers while the block runs.

    Fused transformer layers cannot be exported.
    """
    outer = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    # torch warns about packages that the model does not need, and onnxscript about optimizations that it skips.
    levels = {logger: logger.level for logger in map(logging.getLogger, ("torch.onnx", "onnxscript"))}
    for logger in levels:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(outer)
        for logger, level in levels.items():
            logger.setLevel(level)


def largest_difference(outputs: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Returns the largest difference between outputs. For integers, this is the fraction of values that differ.

    If the largest absolute value of an expected output is above 1, the difference is divided by this value, because
    rounding errors scale with the values. The result is infinite if the outputs differ in number or shape, if a value
    is NaN, or if an infinite value corresponds to a different one.
    """
    if [tuple(tensor.shape) for tensor in outputs] != [tuple(tensor.shape) for tensor in expected]:
        return float("inf")
    differences = [0.0]
    for output, target in zip(outputs, expected, strict=True):
        if not target.is_floating_point():
            differences.append(float((output != target).double().mean().nan_to_num()))
        elif target.numel():
            # Infinities may be equal.
            difference = (output.double() - target.double()).abs().masked_fill(output == target, 0.0)
            scale = target.double().abs().nan_to_num(0.0, 0.0).max().clamp(min=1.0)
            differences.append(float((difference / scale).nan_to_num(float("inf"), float("inf")).max()))
    return max(differences)


def named_outputs(value: Any) -> dict[str, Tensor]:
    """Returns the tensors in the output of a model, named after their paths in it, e.g. "boxes_0" or "output_1".

    Skips values that are not tensors.
    """
    paths = {re.sub(r"[.\[]", "_", path.replace("]", "")): tensor for path, tensor in tensors_in(value)}
    return {path[1:] if isinstance(value, Mapping) else f"output{path}": tensor for path, tensor in paths.items()}
