"""Starts a code base on an engine, and makes its models small and equal on both engines."""

import contextlib
import importlib
import os
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

# Without this, `torch.cuda.is_available()`, which code bases call on import, makes CUDA fail in forked processes.
os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"

import torch

from benchmarks.code_bases import configs, mmaction, mmdet, mmdet3d, mmocr, mmrotate, mmyolo
from benchmarks.code_bases.made_up_data import register_transforms

PREPARE: dict[str, Callable[[Any, str, int], None]] = {
    "mmseg": configs.prepare_mmseg,
    "mmdet": mmdet.prepare,
    "mmdet3d": mmdet3d.prepare,
    "mmocr": mmocr.prepare,
    "mmpretrain": configs.prepare_mmpretrain,
    "mmpose": configs.prepare_mmpose,
    "mmselfsup": configs.prepare_mmselfsup,
    "mmaction": mmaction.prepare,
    "mmrotate": mmrotate.prepare,
    "mmyolo": mmyolo.prepare,
}


def model_types() -> list[Any]:
    """Imports the models of all code bases that can be imported, and returns their classes and functions."""
    from mmengine.registry import MODELS

    found: list[Any] = []
    for registry in [MODELS, *MODELS.children.values()]:
        with contextlib.suppress(ImportError):
            found += registry.module_dict.values()
    return found


def shallow_networks(*, transformers: bool = False, stages: bool = False) -> None:
    """Limits every stage of the residual networks of a code base to one block; channel counts do not change.

    Args:
        transformers: Whether to limit vision transformers to four layers, too.
        stages: Whether to limit every stage of other networks to two blocks, too.
    """
    for kind in model_types():
        for arch in getattr(kind, "arch_zoo", {}).values() if transformers else ():
            if isinstance(arch, dict) and "num_layers" in arch and "downscale_indices" not in arch:
                arch["num_layers"] = 4
        settings = vars(kind).get("arch_settings") if isinstance(kind, type) else None
        archs = getattr(kind, "arch_zoo", None) or settings
        for arch in archs.values() if stages and isinstance(archs, dict) else ():
            if isinstance(arch, dict) and isinstance(arch.get("depths"), list):
                arch["depths"] = [min(2, depth) for depth in arch["depths"]]
        for depth, value in settings.items() if isinstance(settings, dict) else ():
            match value:
                case (type() as block, tuple(numbers)):  # of blocks; other entries belong to other networks
                    settings[depth] = (block, tuple(1 for _ in numbers))


@contextlib.contextmanager
def no_random_weights() -> Iterator[None]:
    """Disables random initialization; `fill_parameters` sets the parameters later."""
    names = ("uniform_", "normal_", "erfinv_")
    drawn = {name: getattr(torch.Tensor, name) for name in names}
    for name in names:
        setattr(torch.Tensor, name, lambda tensor, *_, **__: tensor)
    try:
        yield
    finally:
        for name in names:
            setattr(torch.Tensor, name, drawn[name])


def fill_parameters(model: torch.nn.Module) -> float:
    """Draws all parameters from one generator, by name; returns their number in millions."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, each in sorted(model.named_parameters()):
            scale = (0.5 / max(1, (each[0].numel() if each.dim() > 1 else 400))) ** 0.5
            each.copy_(torch.randn(each.shape, generator=generator) * scale)
            if each.dim() == 1 and name.endswith("weight"):
                each.add_(1.0)
    return sum(each.numel() for each in model.parameters()) / 1e6


def start_engine(name: str) -> None:
    """Makes `mmengine` resolve to footplate, or supplies the real one with the operators of `mmcv._ext`."""
    from footplate_openmmlab import install
    from footplate_openmmlab.installation import OperatorsFinder

    if name == "footplate":
        install()
    else:
        sys.meta_path.append(OperatorsFinder())


def import_host(host: str, engine: str) -> None:
    """Starts an engine and imports a code base on it."""
    start_engine(engine)
    if engine == "mmengine":
        import mmcv

        mmcv.__version__ = "2.0.0"  # a version that every code base accepts
    if host == "mmselfsup":
        sys.modules["mmpretrain"] = None  # type: ignore[assignment]  # both register names in mmdet
    if host == "mmaction" and engine == "mmengine":  # footplate skips the folder that is missing from the package
        sys.modules["mmaction.models.localizers.drn.drn"] = types.SimpleNamespace(DRN=None)  # type: ignore[assignment]
    with contextlib.redirect_stdout(sys.stderr):
        importlib.import_module(host)
        for part in ("models", "datasets", "evaluation", "engine", "visualization"):
            with contextlib.suppress(ModuleNotFoundError):
                importlib.import_module(f"{host}.{part}")
        register_transforms()
        model_types()  # imported here once instead of in each process
