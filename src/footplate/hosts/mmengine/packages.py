"""The version of MMEngine that footplate reports, and the published configs and models of code bases."""

from typing import Any

from footplate.checkpoint import load_weights
from footplate.config import Config
from footplate.errors import ConfigError
from footplate.hosts.mmengine.checkpoint import CheckpointLoader
from footplate.hosts.mmengine.infer import BaseInferencer
from footplate.hosts.mmengine.utils import parse_version_info as parse_version_info
from footplate.registry import CODE_BASES, MODELS, using_scope

# The newest version whose names footplate provides. Code bases compare it with the versions that they accept.
__version__ = "0.10.7"
version_info = parse_version_info(__version__)

MODULE2PACKAGE = CODE_BASES


def get_config(cfg_path: str, pretrained: bool = False) -> Config:
    """Returns a published config of an installed code base.

    Args:
        cfg_path: The code base and the config, such as `mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py`.
        pretrained: Whether to set `model_path` to the address of the published weights.

    Raises:
        ConfigError: The code base is not installed, or has no such config.
    """
    scope, separator, path = cfg_path.partition("::")
    if not separator:
        raise ConfigError(f"'{cfg_path}' does not name a code base. Write it as 'mmdet::faster_rcnn/...py'.")
    cfg = Config.fromfile(cfg_path)
    if pretrained:
        for found in BaseInferencer._get_models_from_metafile(BaseInferencer._get_repo_or_mim_dir(scope)):
            if found["Config"].removeprefix("configs/") == path:
                cfg["model_path"] = found["Weights"]
                return cfg
        raise ConfigError(f"No weights are published for '{cfg_path}'.")
    return cfg


def get_model(cfg_path: str, pretrained: bool = False, **kwargs: Any) -> Any:
    """Builds the model of a published config of an installed code base, optionally with its published weights.

    Args:
        cfg_path: See `get_config`.
        pretrained: Whether to load the published weights.
        kwargs: Default arguments for the model.
    """
    cfg = get_config(cfg_path, pretrained)
    with using_scope(cfg_path.partition("::")[0]):
        model = MODELS.build({**kwargs, **cfg.model})
    if pretrained:
        load_weights(model, CheckpointLoader.load_checkpoint(cfg["model_path"]))
    return model
