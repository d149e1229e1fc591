"""Builds timm, torchvision, transformers and segmentation_models_pytorch models by name.

Nothing is downloaded unless `pretrained` is True or an argument names weights of the package. Arguments that would make
a package read a file or download from an address are rejected.
"""

import inspect
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from footplate.checks import check_keys
from footplate.errors import ArgumentError

# Settings that make transformers download weights, code or kernels.
_FETCHING = frozenset({"auto_map", "backbone", "use_pretrained_backbone", "use_timm_backbone"})
# Arguments of `timm.create_model` that select files to read or download.
_TIMM_FILES = ("checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")
_BUILT_IN_ATTENTION = ("eager", "sdpa")
_TRANSFORMERS_MODEL = re.compile(r"(?!Auto|.*PreTrained).+(Model|Backbone|For[A-Z][A-Za-z]+)$")


def check_offline(settings: Mapping[str, Any], key: str = "config") -> None:
    """Raises an ArgumentError if a setting would make transformers download weights or execute remote code.

    `key` is the key path of `settings` in the config, for the error message.
    """
    for name, value in settings.items():
        place = f"{key}.{name}"
        is_foreign_kernel = "implementation" in str(name) and value not in (None, *_BUILT_IN_ATTENTION)
        is_address = name == "architecture" and ":" in str(value)  # a timm model from a server or folder
        is_fetched = value and name in (*_FETCHING, *_TIMM_FILES)
        if is_fetched or is_foreign_kernel or is_address:
            problem = "a transformers model must be built from its config, without downloading weights or code"
            advice = "Remove this setting. Use load_from to load weights."
            if is_foreign_kernel:
                problem = "this implementation may download kernels, which a config must not do"
                advice = "Use 'sdpa' or 'eager'."
            raise ArgumentError(problem, key=place, found=value, notes=[advice])
        for nested in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(nested, Mapping):
                check_offline(nested, place)


def _keep_offline(config: Any) -> None:
    """Disables pretrained backbones, which transformers 4 downloads by default, for example for `DetrModel`."""
    if getattr(config, "use_pretrained_backbone", False):
        config.use_pretrained_backbone = False
    for nested in vars(config).values():
        if hasattr(nested, "model_type"):
            _keep_offline(nested)


def _refuse(settings: Mapping[str, Any], *names: str) -> None:
    for name in names:
        if settings.get(name) is not None:
            raise ArgumentError(
                f"a config must not set '{name}', which selects files to read or download",
                key=name,
                found=settings[name],
                notes=["Use load_from or init_cfg to load weights, or build the model in Python."],
            )


class PackageSource:
    """Base class for the models of an imported package.

    Subclasses implement `names`, and add `build(name, **settings)`, which returns a model.

    Configs can refer only to models for which `has` returns True.
    """

    def __init__(self, package: Any) -> None:
        self.package = package

    def names(self) -> list[str]:
        """Returns the names of the models."""
        raise NotImplementedError

    def has(self, name: str) -> bool:
        """Checks whether a model with this name exists."""
        return name in self.names()


class TimmModels(PackageSource):
    """The timm models. `features_only=True` builds backbones. Names may contain a tag, as in `resnet18.a1_in1k`."""

    def names(self) -> list[str]:
        """Returns the names of the models."""
        return list(self.package.list_models())

    def has(self, name: str) -> bool:
        """Checks whether a model with this name exists. The name may include a tag."""
        return bool(self.package.is_model(name))

    def build(self, name: str, **settings: Any) -> Any:
        """Builds a model. Accepts the arguments of `timm.create_model`, except those that refer to files."""
        _refuse(settings, *_TIMM_FILES)
        return self.package.create_model(name, **settings)


class TorchvisionModels(PackageSource):
    """The torchvision models. `pretrained=True` downloads and loads the default weights."""

    def names(self) -> list[str]:
        """Returns the names of the models."""
        return list(self.package.models.list_models())

    def build(self, name: str, pretrained: bool = False, **settings: Any) -> Any:
        """Builds a model. Accepts the same arguments as the torchvision function of the same name."""
        if pretrained:
            settings.setdefault("weights", "DEFAULT")
        elif "weights_backbone" in inspect.signature(self.package.models.get_model_builder(name)).parameters:
            settings.setdefault("weights_backbone", None)  # torchvision downloads them by default
        return self.package.models.get_model(name, **settings)


class TransformersModels(PackageSource):
    """The transformers model classes. Models are built from their configs, without pretrained weights."""

    @cache  # noqa: B019 - there is only one object per package
    def names(self) -> list[str]:
        """Returns the names of the model classes."""
        return sorted(filter(_TRANSFORMERS_MODEL.match, dir(self.package)))

    def has(self, name: str) -> bool:
        """Checks whether a model class with this name exists."""
        model_class = getattr(self.package, name, None) if _TRANSFORMERS_MODEL.match(name) else None
        is_model = inspect.isclass(model_class) and issubclass(model_class, self.package.PreTrainedModel)
        return is_model and model_class.config_class is not None  # type: ignore[union-attr]

    def build(self, name: str, **settings: Any) -> Any:
        """Builds a model from its only argument, `config`, which is a config object or a dict of settings."""
        model_class = getattr(self.package, name)
        check_keys("model", settings, ["config"])
        config = settings.get("config") or {}
        if isinstance(config, Mapping):
            check_offline(config)
            config = model_class.config_class(**config)
            _keep_offline(config)
        return model_class(config)


class SegmentationModels(PackageSource):
    """The segmentation_models_pytorch architectures, e.g. `Unet`."""

    def names(self) -> list[str]:
        """Returns the names of the architectures."""
        base = self.package.base.SegmentationModel
        entries = vars(self.package).items()
        return sorted(
            name for name, entry in entries if inspect.isclass(entry) and issubclass(entry, base) and entry is not base
        )

    def build(self, name: str, pretrained: bool = False, **settings: Any) -> Any:
        """Builds a model from the arguments of its class. Without `pretrained`, `encoder_weights` defaults to None.

        Raises:
            ArgumentError: An argument refers to a file or address.
        """
        if not pretrained:
            settings.setdefault("encoder_weights", None)
        _refuse(settings, *_TIMM_FILES)  # timm encoders accept these arguments
        encoder = settings.get("encoder_name", "")
        if not isinstance(encoder, str) or ":" in encoder:
            raise ArgumentError(
                "'encoder_name' must be the name of an encoder, not an address", key="encoder_name", found=encoder
            )
        return getattr(self.package, name)(**settings)
