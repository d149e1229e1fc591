"""The exported module with its preprocessing and postprocessing, and the formats that it can be exported to."""

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from footplate.errors import ArgumentError, import_optional

Run = Callable[[Tensor], Sequence[Tensor]]
INPUT = "images"
_ONNX = "exporting to ONNX"  # the reason for importing optional packages
_DYNAMIC = {0: torch.export.Dim.AUTO, 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}


class ExportedModel(nn.Module):
    """Computes named tensors from a batch of images.

    The images are a float32 tensor ``(N, C, H, W)`` with values from 0 to 255, in the channel order of the pipeline.

    Normalizes and pads the images as the data preprocessor of the model does. The outputs of models for footplate's
    tasks are probabilities and labels, boxes and scores, or features. For other models, they are the output in mode
    "tensor".

    Args:
        model: A model in evaluation mode.
    """

    mean: Tensor
    std: Tensor
    _least_size: tuple[int, int]
    _divisor: int

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model
        own: Any = getattr(model, "data_preprocessor", None)
        # The preprocessors of code bases have the same attributes.
        swaps = ("_channel_conversion", "channel_conversion", "to_rgb")
        self._swaps = any(bool(getattr(own, name, False)) for name in swaps)
        self._normalizes = bool(getattr(own, "_enable_normalize", False))
        if self._normalizes:
            self.register_buffer("mean", own.mean.detach().clone().view(-1, 1, 1), persistent=False)
            self.register_buffer("std", own.std.detach().clone().view(-1, 1, 1), persistent=False)
        test_cfg = getattr(own, "test_cfg", None) or {}
        usual = test_cfg.get("size") or (0, 0), test_cfg.get("size_divisor") or getattr(own, "pad_size_divisor", 1)
        padding: Any = getattr(own, "_test_padding", usual)
        self._least_size, self._divisor = padding
        self._padding = float(getattr(own, "pad_value", getattr(own, "pad_val", 0)))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Returns the outputs in the order of `named_outputs`."""
        return tuple(self.named_outputs(images).values())

    def named_outputs(self, images: Tensor) -> dict[str, Tensor]:
        """Returns a dict that maps the names of the outputs to their values."""
        inputs = self.preprocess(images)
        if hasattr(self.model, "predicted_tensors"):
            outputs = self.model.predicted_tensors(inputs)
        elif hasattr(self.model, "encode_decode"):  # a segmentor of MMSegmentation, which resizes its scores
            size = tuple(inputs.shape[-2:])
            scores = self.model.encode_decode(inputs, [{"ori_shape": size, "img_shape": size, "pad_shape": size}])
            outputs = {"scores": scores}
            if scores.shape[1] > 1:
                outputs = {"probabilities": scores.softmax(dim=1), "labels": scores.argmax(dim=1)}
        else:
            outputs = self.model(inputs, mode="tensor")
        named = _flatten("output", outputs)
        if "probabilities" in named and named["probabilities"].dim() == 4:  # removes the padding
            height, width = images.shape[-2:]
            return {name: tensor[..., :height, :width] for name, tensor in named.items()}
        return named

    def preprocess(self, images: Tensor) -> Tensor:
        """Normalizes and pads images as the data preprocessor does in validation."""
        inputs = images.flip(1) if self._swaps else images
        if self._normalizes:
            inputs = (inputs - self.mean) / self.std
        if self._divisor > 1 or any(self._least_size):
            height, width = inputs.shape[-2:]
            bottom = max(self._least_size[0], height + -height % self._divisor) - height
            right = max(self._least_size[1], width + -width % self._divisor) - width
            inputs = F.pad(inputs, (0, right, 0, bottom), value=self._padding)
        return inputs


def _flatten(name: str, outputs: Any) -> dict[str, Tensor]:
    """Returns the tensors in nested outputs, with names from their keys and positions."""
    if isinstance(outputs, Tensor):
        return {name: outputs}
    if isinstance(outputs, Mapping):
        prefix = "" if name == "output" else f"{name}_"
        parts = {f"{prefix}{key}": value for key, value in outputs.items()}
    elif hasattr(outputs, "_asdict"):  # a named tuple
        parts = outputs._asdict()
    elif isinstance(outputs, (list, tuple)):
        parts = {f"{name}_{index}": value for index, value in enumerate(outputs)}
    else:
        return {}
    return {key: tensor for part, value in parts.items() for key, tensor in _flatten(part, value).items()}


def largest_difference(outputs: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Returns the largest absolute difference between outputs. For integers, it is the fraction of values that differ.

    The result is infinite if the outputs differ in number or shape, or if only one of two values is finite.
    """
    if [tuple(tensor.shape) for tensor in outputs] != [tuple(tensor.shape) for tensor in expected]:
        return float("inf")
    differences = [0.0]
    for one, other in zip(outputs, expected, strict=True):
        if not other.is_floating_point():
            differences.append(float((one != other).double().mean().nan_to_num()))
        elif other.numel():
            difference = (one.double() - other.double()).abs().masked_fill(one == other, 0.0)  # equal infinities
            differences.append(float(difference.nan_to_num(nan=float("inf")).max()))
    return max(differences)


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
    # Otherwise, it prints a traceback for an opset that it does not support, before the error below is raised.
    logging.getLogger("onnxscript.version_converter").setLevel(logging.ERROR)
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
