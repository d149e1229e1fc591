"""Enables test-time augmentation."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from footplate.checks import check_choice, check_names
from footplate.data import Compose
from footplate.data.dataset_wrappers import innermost_datasets
from footplate.distributed import unwrap_model
from footplate.engine import Hook, Run, TestLoop, ValLoop
from footplate.engine.loops.loop_classes import check_loop_class
from footplate.error_context import at_key
from footplate.errors import ArgumentError, BuildError
from footplate.registry import HOOKS, MODELS


@HOOKS.register_module()
class PrepareTTAHook(Hook):
    """Predicts on several views of each sample during testing or validation, and merges the predictions.

    A pipeline that ends with `TestTimeAug` creates the views, and a `BaseTTAModel` merges the predictions. Training and
    checkpoints are not affected.

    Args:
        tta_cfg: The config of the merging model, without `module`, e.g. `dict(type="SegTTAModel")`. Defaults to
            `tta_model` in the run's config.
        tta_pipeline: The pipeline for the datasets. Defaults to `tta_pipeline` in the run's config.
        phases: "test", "val" or both.

    Raises:
        ArgumentError: A phase is unknown. Also raised at the start of a run if the merging model or the pipeline is
            missing, or if the loop computes losses.
        BuildError: Raised at the start of a run if a dataset has no pipeline, or if the loop is not derived from
            TestLoop or ValLoop.
    """

    priority = "VERY_LOW"
    sets_predictor = True

    def __init__(
        self,
        tta_cfg: Mapping[str, Any] | None = None,
        tta_pipeline: Sequence[Any] | None = None,
        phases: str | Sequence[str] = ("test",),
    ) -> None:
        self.tta_cfg = tta_cfg
        self.tta_pipeline = tta_pipeline
        self.phases = check_names("phases", phases)
        for phase in self.phases:
            check_choice("a phase", phase, ("test", "val"), key="phases")

    def before_run(self, runner: Run) -> None:
        """Builds the merging model for the run's loops, and replaces the pipelines of their datasets."""
        for phase in self.phases:
            loop = runner.built.get(f"{phase}_loop")
            if loop is None:
                continue
            check_loop_class(type(loop), TestLoop if phase == "test" else ValLoop, f"{phase}_cfg.type")
            if loop.predictor is not None:
                continue
            if loop.loss:
                raise ArgumentError(
                    "test-time augmentation cannot compute losses",
                    key=f"{loop.mode}_cfg.loss",
                    found=True,
                    notes=["Set loss=False."],
                )
            cfg = dict(_setting(runner, self.tta_cfg, "tta_model"))
            pipeline = _setting(runner, self.tta_pipeline, "tta_pipeline")
            with at_key("tta_model"):
                loop.predictor = MODELS.build(cfg, module=unwrap_model(runner.model))
            for evaluation_set in loop.sets:
                for dataset in innermost_datasets(evaluation_set.dataset):
                    if not hasattr(dataset, "pipeline"):
                        raise BuildError(f"the dataset '{type(dataset).__name__}' has no pipeline to replace")
                    with at_key("tta_pipeline"):
                        # Pass a copy, because mmcv's TestTimeAug modifies its arguments.
                        dataset.pipeline = Compose(copy.deepcopy(pipeline))


def _setting(runner: Run, argument: Any, key: str) -> Any:
    """Returns `argument`, or the config section `key` if `argument` is None."""
    setting = runner.cfg.get(key) if argument is None else argument
    if setting is None:
        notes = ["Set it in the config, or pass tta_cfg and tta_pipeline to PrepareTTAHook."]
        raise ArgumentError(f"test-time augmentation requires '{key}'", key=key, notes=notes)
    return setting
