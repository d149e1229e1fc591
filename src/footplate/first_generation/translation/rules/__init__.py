"""The translation rules, in the order in which they are applied."""

from footplate.first_generation.translation.draft import Rule
from footplate.first_generation.translation.rules import data, evaluation, hooks, optimization, runtime

RULES: tuple[Rule, ...] = (
    runtime.renamed,
    runtime.dist_params,
    runtime.resume,
    runtime.device,
    runtime.model_settings,
    runtime.model_adapter,
    optimization.optimizer,
    optimization.optimizer_config,
    optimization.fp16,
    optimization.lr_config,
    optimization.momentum_config,
    optimization.runner,
    hooks.checkpoint_config,
    hooks.log_config,
    hooks.custom_hooks,
    evaluation.evaluation,
    data.workflow,
    data.data,
    hooks.priorities,
)

__all__ = ["RULES", "Rule"]
