import importlib.machinery
import sys
from types import ModuleType
from typing import Any

import pytest
from torch import nn

from footplate.errors import ArgumentError, FootplateError, UnknownNameError
from footplate.models.package_models import SegmentationModels, TimmModels, TransformersModels, check_offline
from footplate.registry import MODELS
from footplate.registry.root import PackageModels


def child(package: str) -> PackageModels:
    found = MODELS.children[package]
    assert isinstance(found, PackageModels)
    return found


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A package with the functions of timm that footplate calls, and the two models resnet18 and vit."""

    def resnet18() -> None:
        """A small model.

        More about it.
        """

    timm: Any = ModuleType("timm")
    timm.__spec__ = importlib.machinery.ModuleSpec("timm", None, is_package=True)
    timm.list_models = lambda: ["resnet18", "vit"]
    timm.is_model = lambda name: name.partition(".")[0] in ("resnet18", "vit")
    timm.model_entrypoint = lambda name: resnet18
    timm.create_model = lambda name, pretrained=False, **settings: nn.Linear(1, settings.get("num_classes", 1))
    monkeypatch.setitem(sys.modules, "timm", timm)
    monkeypatch.setitem(vars(child("timm")), "source", TimmModels(timm))
    return timm  # type: ignore[no-any-return]


@pytest.mark.parametrize("key", ["checkpoint_path", "pretrained_cfg_overlay"])
def test_config_may_not_choose_files(package: ModuleType, key: str) -> None:
    with pytest.raises(ArgumentError, match=f"a config must not set '{key}'"):
        MODELS.build({"type": "timm.resnet18", key: "x"})


def test_dotted_path_into_the_package_stays_forbidden(package: ModuleType) -> None:
    with pytest.raises(FootplateError, match="must not refer"):
        MODELS.build({"type": "timm.models.resnet.ResNet"})


@pytest.mark.slow
def test_transformers_model_is_built_from_its_config() -> None:
    pytest.importorskip("transformers")
    config = {"depths": [1, 1], "hidden_sizes": [8, 8], "embedding_size": 8}
    model = MODELS.build({"type": "transformers.ResNetModel", "config": config})
    assert model.config.hidden_sizes == [8, 8]
    with pytest.raises(ArgumentError, match="must be built from its config"):
        MODELS.build({"type": "transformers.ResNetModel", "config": {"auto_map": {"a": "b"}}})
    with pytest.raises(UnknownNameError, match="did you mean 'transformers.ResNetModel'"):
        MODELS.build({"type": "transformers.ResNetModle"})


@pytest.mark.parametrize(
    ("config", "key"),
    [
        ({"architecture": "hf-hub:someone/model"}, "architecture"),
        ({"vision_config": {"architecture": "local-dir:/models"}}, "vision_config.architecture"),
        ({"model_args": {"pretrained_cfg_overlay": {"url": "a"}}}, "model_args.pretrained_cfg_overlay"),
    ],
)
def test_config_of_transformers_may_not_choose_files_of_timm(config: dict[str, Any], key: str) -> None:
    with pytest.raises(ArgumentError, match="without downloading") as caught:
        check_offline(config)
    assert caught.value.key == f"config.{key}"


def test_foreign_attention_kernel_is_refused() -> None:
    with pytest.raises(ArgumentError, match="may download kernels.*(\n.*)*Use 'sdpa' or 'eager'"):
        check_offline({"attn_implementation": "kernels-community/flash-attn"})


def test_transformers_do_not_download_backbones_by_default() -> None:
    class Config:
        model_type = "outer"

        def __init__(self) -> None:
            self.use_pretrained_backbone = True
            self.part = Part()

    class Part:
        model_type = "inner"
        use_pretrained_backbone = True

    class DetectorModel:
        config_class = Config

        def __init__(self, config: Config) -> None:
            self.config = config

    package: Any = ModuleType("transformers")
    package.DetectorModel = DetectorModel
    config = TransformersModels(package).build("DetectorModel").config
    assert (config.use_pretrained_backbone, config.part.use_pretrained_backbone) == (False, False)


def test_encoders_of_timm_may_not_choose_files() -> None:
    package: Any = ModuleType("segmentation_models_pytorch")
    package.Unet = dict
    models = SegmentationModels(package)
    assert models.build("Unet", encoder_name="tu-resnet18") == {"encoder_name": "tu-resnet18", "encoder_weights": None}
    with pytest.raises(ArgumentError, match="'checkpoint_path'"):
        models.build("Unet", encoder_name="tu-resnet18", checkpoint_path="a.pth")
