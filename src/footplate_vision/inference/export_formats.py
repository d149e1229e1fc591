"""Defines the export formats, and how to write and run files in each format."""

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from footplate.errors import ArgumentError, import_optional
from footplate_vision.inference.example_inputs import Inputs, named_tensors

Run = Callable[[Inputs], Any]
Compare = Callable[[Sequence[Tensor], Sequence[Tensor]], float]
_MAX_FORMULA_LENGTH = 250
_ONNX = "exporting to ONNX"  # why optional packages are imported, for error messages


@dataclass(frozen=True)
class ExportRequest:
    """The module, file and settings for an export.

    Args:
        module: The module, in evaluation mode on the CPU.
        inputs: Example inputs.
        names: The names of the outputs.
        path: The file to write.
        metainfo: Metadata to store in the file, e.g. the classes.
        opset: The ONNX opset version, or None for the default.
        dims: The input dimensions that may vary if the model supports it. None means all dimensions.
        write: A function that writes the file. None means the format's own function.
    """

    module: nn.Module
    inputs: Inputs
    names: Sequence[str]
    path: str
    metainfo: dict[str, str]
    opset: int | None = None
    dims: Sequence[int] | None = None
    write: "Callable[[ExportRequest], None] | None" = None


class ExportFormat(NamedTuple):
    """An export format: its file suffix, and functions to write a file and open it for inference."""

    suffix: str
    write: Callable[[ExportRequest], None]
    open: Callable[[str], Run]


def _trace(request: ExportRequest) -> Any:
    inputs = request.inputs.on_cpu()  # copies, because torch marks these tensors as dynamic even if the trace fails
    args, kwargs, _ = inputs
    shapes: Any = torch.export.ShapesCollection()  # type: ignore[no-untyped-call]
    for tensor in inputs.tensors().values():
        dims = range(tensor.dim()) if request.dims is None else request.dims
        shapes[tensor] = dict.fromkeys(dims, torch.export.Dim.AUTO)
    dynamic_shapes = shapes.dynamic_shapes(request.module, args, dict(kwargs)) if request.dims != () else None
    handle = nn.modules.module.register_module_forward_pre_hook(_limit_formulas)
    try:
        return torch.export.export(request.module, args, dict(kwargs), dynamic_shapes=dynamic_shapes)
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
        input_names=list(request.inputs.tensors()),
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

    def run(inputs: Inputs) -> list[Tensor]:
        arrays = {name: tensor.numpy() for name, tensor in inputs.tensors().items()}
        return [torch.from_numpy(output) for output in session.run(None, arrays)]

    return run


def _write_torch_export(request: ExportRequest) -> None:
    torch.export.save(_trace(request), request.path, extra_files={"metainfo.json": json.dumps(request.metainfo)})


def _run_with(module: nn.Module) -> Run:
    return lambda inputs: module(*inputs.args, **inputs.kwargs)


FORMATS: Mapping[str, ExportFormat] = {
    "onnx": ExportFormat(".onnx", _write_onnx, _open_onnx),
    "torch-export": ExportFormat(".pt2", _write_torch_export, lambda path: _run_with(torch.export.load(path).module())),
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


def difference_of(run: Run, module: nn.Module, inputs: Inputs, compare: Compare = largest_difference) -> float:
    """Runs an exported file and a module, and returns the difference between their outputs as computed by `compare`."""
    outputs, expected = (list(named_tensors("output", call(inputs)).values()) for call in (run, _run_with(module)))
    return compare(outputs, expected)
