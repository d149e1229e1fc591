"""Adds support for OpenMMLab's configs, code bases and first-generation components to the core."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from footplate.error_context import origin_at
from footplate.errors import ConfigError
from footplate.extensions import Extension

_NAMES = "mmcls mmdet mmdet3d mmedit mmfewshot mmflow mmgen mmagic mmocr mmpose mmpretrain mmrazor mmrotate"
CODE_BASES = {"mmaction": "mmaction2", "mmseg": "mmsegmentation"}
CODE_BASES |= {name: name for name in f"{_NAMES} mmselfsup mmtrack mmyolo".split()}
"""Maps the import name of each OpenMMLab code base, which is also its scope, to its name on PyPI."""

_PACKAGE = "footplate_openmmlab.first_generation"
_PARTS = "checkpoint_hook evaluation hook logger_hooks model optimizer_hooks updater_hooks warm_up_ema workflow"
_ADAPTERS = tuple(f"{_PACKAGE}.adapters.{part}" for part in _PARTS.split())
# Maps the kinds and names of first-generation components to advice for when they are unknown.
_UNKNOWN_NAMES = Path(__file__).with_name("unknown_names.json")

_AMP = "Set `optim_wrapper = dict(type='AmpOptimWrapper', ...)`, or `fp16 = dict()` in a first-generation config."
# Unsupported keys that would change the results, with advice on what to do instead.
_REFUSED = {
    "apex_amp": _AMP,
    "use_apex_amp": _AMP,
    "module_hooks": "Register the hooks in the model.",
    "omnisource": "Join the datasets with `dict(type='ConcatDataset', datasets=[...])`.",
    "precise_bn": "Compute the statistics in a custom hook.",
    "strategy": "Remove it and start the run with torchrun. To use FullyShard, set `model_wrapper_cfg`.",
}
# Unsupported keys that would not change the results.
_IGNORED = {
    "efficient_conv_bn_eval": "The run needs more memory if batch normalization layers are frozen.",
    "train_cfg.fast_forward_on_resume": "A resumed run always continues with the next sample, without reading others.",
    "use_ddp_wrapper": "Set `model_wrapper_cfg` to choose the wrapper.",
}
REPOSITORIES = {"mmdetection": "mmdet", "mmsegmentation": "mmseg", "mmaction2": "mmaction", "mmtracking": "mmtrack"}
REPOSITORIES |= {"mmdetection3d": "mmdet3d", "mmclassification": "mmcls", "mmediting": "mmedit"}
REPOSITORIES |= {"mmgeneration": "mmgen"}
RELAXED: dict[str, str] = {}
"""For each code base that does not have the version that another one requires, a note for all errors."""
_logger = logging.getLogger("footplate.openmmlab")
_DEFAULT_STRATEGIES = ("SingleDeviceStrategy", "DDPStrategy")


class OpenMMLab(Extension):
    """Translates first-generation configs, and makes OpenMMLab's code bases and components available."""

    packages = {"mmengine": "", "mmcv": "", **CODE_BASES}
    repositories = REPOSITORIES
    locations = {
        **dict.fromkeys(("hook", "dataset", "function", "model", "optimizer wrapper", "metric"), _ADAPTERS),
        "data sampler": (f"{_PACKAGE}.adapters.group_batches",),
        "model wrapper": ("footplate_openmmlab.mmengine.model_wrappers",),
        "optimizer constructor": (f"{_PACKAGE}.optim.constructors",),
        "optimizer wrapper constructor": (f"{_PACKAGE}.optim.constructors",),
        "parameter scheduler": (f"{_PACKAGE}.optim.policies",),
    }

    ignored_keys = _IGNORED
    advice = RELAXED

    @property
    def config_keys(self) -> frozenset[str]:
        """The top-level keys that are specific to first-generation configs."""
        from footplate_openmmlab.first_generation.translation.config_translation import FIRST_GENERATION_KEYS

        return frozenset(FIRST_GENERATION_KEYS)

    def check_config(self, cfg: Any) -> None:
        """Raises an error if the config contains an unsupported key that affects the results."""
        refuse_unsupported(cfg)

    def translates(self, cfg: Any) -> bool:
        """Checks whether a config is a first-generation config."""
        from footplate_openmmlab.first_generation.translation.config_translation import is_first_generation

        return is_first_generation(cfg)

    def translate(self, cfg: Any, *, for_run: bool = True) -> Any:
        """Translates a first-generation config."""
        from footplate_openmmlab.first_generation.translation.config_translation import translate, translate_for_run

        return translate_for_run(cfg) if for_run else translate(cfg)

    def equivalent_key(self, cfg: Any, path: str, origin: Any = None) -> str | None:
        """Returns the key in a first-generation config that is equivalent to `path`, or None if none exists."""
        from footplate_openmmlab.first_generation.translation.equivalent_keys import equivalent_key

        return equivalent_key(cfg, path, origin)

    def training_loop(self, loop_class: Any) -> Any:
        """Returns a training loop's class with the base class `BaseTrainLoop`."""
        from footplate_openmmlab.mmengine.loops import with_training

        return with_training(loop_class)

    def import_packages(self, cfg: Any) -> None:
        """Imports a config's code bases and its plugin."""
        from footplate_openmmlab.code_bases import import_packages

        import_packages(cfg)

    def run_script(self, path: str) -> bool:
        """Redirects the imports of a script to footplate, and runs it if it uses names that no longer exist."""
        from footplate_openmmlab.installation import install
        from footplate_openmmlab.patches import run_patched

        install()
        return run_patched(path)

    def startup_messages(self) -> list[str]:
        """Returns the code bases of a run, and missing packages."""
        from footplate_openmmlab import used_code_bases
        from footplate_openmmlab.skipped_imports import describe_missing

        messages = [f"Using {code_base} with footplate as its engine." for code_base in used_code_bases()]
        if packages := describe_missing():
            messages.append(packages)
        return messages

    def prepare_training(self, runner: Any) -> None:
        """Supports models that modify the output of a ReLU in place during training, which PyTorch < 1.9 allowed.

        Also warns about config keys that only the repository's own training code reads, and writes to the log file
        which names were patched in the code of packages.
        """
        from footplate.records import NOT_SHOWN
        from footplate_openmmlab import describe_patches
        from footplate_openmmlab.relu import repair_first_step
        from footplate_openmmlab.training_code import warn_about_keys_of_training_code

        if patches := describe_patches():
            text = "Updated names that newer library versions removed or changed: %s"
            _logger.info(text, patches, extra=NOT_SHOWN)
        repair_first_step(runner.model)
        warn_about_keys_of_training_code(runner.cfg)

    def explain_unknown(self, noun: str, name: str) -> list[str]:
        """Returns advice about an unknown name. The list may be empty.

        The advice suggests a replacement for a first-generation transform, or a policy for a hook that implements one,
        explains why an import failed, or states which code base a first-generation model comes from. For a missing code
        base, the advice tells how to install it.
        """
        if noun == "package":
            from footplate_openmmlab.requirements import explain_installation

            return explain_installation(name) if name in CODE_BASES else []
        policy = name.removesuffix("UpdaterHook")
        if policy != name:
            from footplate_openmmlab.first_generation.translation.schedule_rules import nearest_policy

            near = nearest_policy(policy.removesuffix("Lr").removesuffix("Momentum"))
            advice = "A policy that is not built in needs a registered hook with this name."
            return [f"{advice} Did you mean the policy '{near}'?" if near else advice]
        from footplate_openmmlab.skipped_imports import skipped

        advice = json.loads(_UNKNOWN_NAMES.read_bytes()).get(noun, {}).get(name)
        advice = f"It could not be imported. {skipped[name]}" if name in skipped else advice
        return [advice] if advice else []

    def check_dataset(self, dataset: Any) -> None:
        """Checks the labels of MMDetection's CocoDataset, and the label maps of MMSegmentation's datasets.

        Logs a warning about transforms that mix in earlier samples, such as CachedMosaic.
        """
        steps = getattr(getattr(dataset, "pipeline", None), "transforms", ())
        if mixing := [type(step).__name__ for step in steps if hasattr(step, "results_cache")]:
            _logger.warning(
                "%s: images of earlier samples are mixed in, which checkpoints do not contain. A resumed run sees "
                "other images at first, and the images depend on the number of workers.",
                ", ".join(mixing),
            )
        if hasattr(dataset, "cat2label"):
            from footplate_openmmlab.coco_labels import check_categories

            check_categories(dataset)
        if hasattr(dataset, "reduce_zero_label"):
            from footplate_openmmlab.label_maps import check_label_maps

            check_label_maps(dataset)


def refuse_unsupported(cfg: Mapping[str, Any]) -> None:
    """Raises an error if a config contains an unsupported key that affects the results.

    Raises:
        ConfigError: The config contains such a key. The message suggests an alternative.
    """
    from footplate.config.config_dict import is_variable  # `footplate.config` imports this package

    for key, advice in _REFUSED.items():
        if cfg.get(key) and not is_variable(cfg, key) and not (key == "strategy" and _is_default(cfg[key])):
            raise ConfigError(
                f"footplate does not support '{key}', and the results would differ without it",
                key=key,
                found=cfg[key],
                origin=origin_at(cfg, key),
                notes=[advice],
            )


def _is_default(strategy: Any) -> bool:
    """Checks whether a strategy only requests footplate's default behavior."""
    settings = strategy if isinstance(strategy, Mapping) else {"type": strategy}
    return len(settings) == 1 and str(settings.get("type")).rpartition(".")[2] in _DEFAULT_STRATEGIES
