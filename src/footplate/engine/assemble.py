"""Builds the components of a run. This is the only module that knows all of them and their order."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from footplate import storage
from footplate.checks import check_flag
from footplate.data import build_dataloader
from footplate.distributed import check_same_parameters, wrap_model
from footplate.engine.evaluation_loops import build_evaluators, build_loaders
from footplate.engine.scaling import scale_learning_rates
from footplate.engine.speed import made_fast
from footplate.engine.uneven import UnevenStepHook
from footplate.error_context import at_key, with_origins
from footplate.errors import ArgumentError, BuildError, DataError
from footplate.optim import build_optim_wrapper, build_param_schedulers
from footplate.records import LogProcessor, length_of
from footplate.registry import LOG_PROCESSORS, LOOPS, MODELS, VISUALIZERS
from footplate.storage import output_path
from footplate.visualization import Visualizer

if TYPE_CHECKING:
    from footplate.engine.base_loops import BaseTrainLoop
    from footplate.engine.runner import Runner


_PHASES = {
    "training": ("train_dataloader", "train_cfg", "optim_wrapper"),
    "validation": ("val_dataloader", "val_cfg", "val_evaluator"),
    "a test": ("test_dataloader", "test_cfg", "test_evaluator"),
}
_KINDS: tuple[tuple[tuple[type, ...], str, tuple[str, ...]], ...] = (
    (
        (Mapping,),
        "a dict",
        (
            "default_hooks",
            "env_cfg",
            "auto_scale_lr",
            "randomness",
            "model_wrapper_cfg",
            "model_adapter",
            "log_file",
            "on_nonfinite",
        ),
    ),
    ((Mapping, LogProcessor), "a dict or a LogProcessor", ("log_processor",)),
    ((Mapping, Visualizer), "a dict or a Visualizer", ("visualizer",)),
    ((Sequence,), "a list of hooks", ("custom_hooks",)),
    ((bool,), "True or False", ("preflight", "find_unused_parameters", "channels_last")),
    ((bool, Mapping), "True, False or a dict", ("compile",)),
    ((str,), "a string", ("work_dir", "load_from", "launcher", "experiment_name", "default_scope")),
)


def check_kinds(sections: Mapping[str, Any]) -> None:
    """Refuses arguments of the runner that are of the wrong type.

    Args:
        sections: The runner's arguments by name.

    Raises:
        ArgumentError: One is; the message says what it should be.
    """
    for kinds, what, names in _KINDS:
        for name in names:
            value = sections.get(name)
            if value is not None and (not isinstance(value, kinds) or (isinstance(value, str) and str not in kinds)):
                raise ArgumentError(f"'{name}' must be {what}", key=name, found=value)
    with at_key("work_dir"):
        _check_place(sections.get("work_dir"))
    if not any(sections.get("resume") is each for each in (None, True, False)) and sections.get("resume") != "auto":
        raise ArgumentError(
            "'resume' is True, False or 'auto'",
            key="resume",
            found=sections["resume"],
            notes=["load_from names a checkpoint"],
        )
    train_cfg = sections.get("train_cfg")
    if isinstance(train_cfg, Mapping) and "by_epoch" in train_cfg:
        with at_key("train_cfg"):
            check_flag("by_epoch", train_cfg["by_epoch"])
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        _check_loader(name, sections.get(name))


def _check_place(folder: str | None) -> None:
    if folder == "":
        raise ArgumentError("'work_dir' must name a folder", found=folder)
    if folder and "\0" in folder:
        raise ArgumentError("a path holds no null byte", found=folder)
    if folder and not storage.is_local(folder):
        storage.check_protocol(folder)


def _check_loader(name: str, loader: Any) -> None:
    if loader is None or (isinstance(loader, Mapping) and loader):
        return
    if isinstance(loader, str) or not (hasattr(loader, "__iter__") or hasattr(loader, "__getitem__")):
        raise ArgumentError(f"'{name}' must be a dict, or batches one after the other", key=name, found=loader)
    if isinstance(loader, (Mapping, list, tuple)) and not loader:
        raise ArgumentError(f"'{name}' holds nothing", key=name, found=loader)


def check_phases(sections: Mapping[str, Any]) -> None:
    """Checks that each phase is given completely or not at all.

    Args:
        sections: The runner's arguments by name.

    Raises:
        ArgumentError: One part is missing where another one of its phase is there.
    """
    for phase, parts in _PHASES.items():
        given = [part for part in parts if sections[part] is not None]
        missing = [part for part in parts if sections[part] is None]
        if given and missing:
            raise ArgumentError(f"{phase} needs '{missing[0]}'", key=missing[0], notes=[f"given: {', '.join(given)}"])
    if sections["param_scheduler"] is not None and sections["optim_wrapper"] is None:
        raise ArgumentError("'param_scheduler' needs 'optim_wrapper'", key="param_scheduler")


def build_model(runner: "Runner", sections: Mapping[str, Any]) -> nn.Module:
    """Builds the model, adapts it if the config asks for it, moves it to the device and wraps it for its processes.

    Args:
        runner: The runner.
        sections: The runner's arguments by name.
    """
    model = sections["model"]
    if isinstance(model, Mapping):
        settings = dict(model)
        if sections["data_preprocessor"] is not None:
            settings.setdefault("data_preprocessor", sections["data_preprocessor"])
        with at_key("model"):
            model = MODELS.build(with_origins(settings, model))
    if sections["model_adapter"] is not None:
        with at_key("model_adapter"):
            model = MODELS.build(sections["model_adapter"], model=model)
    if not isinstance(model, nn.Module):
        raise BuildError("the model must be a torch.nn.Module or the dict of one", found=model, key="model")
    for step in ("train_step", "val_step", "test_step"):
        if not hasattr(model, step):
            raise BuildError(
                f"the model '{type(model).__name__}' has no {step}",
                key="model",
                notes=["derive it from BaseModel"],
            )
    check_same_parameters(model)
    model = made_fast(model.to(runner.device), compile=sections["compile"], channels_last=sections["channels_last"])
    return wrap_model(
        model,
        sections["model_wrapper_cfg"],
        find_unused_parameters=sections["find_unused_parameters"] is True,
        sync_bn=sections["sync_bn"],
    )


def build_visualizer(runner: "Runner", visualizer: Any) -> Visualizer:
    """Builds the visualizer. The default one writes to the log folder of the run."""
    if isinstance(visualizer, Visualizer):
        return visualizer
    cfg = visualizer if visualizer is not None else {"vis_backends": [{"type": "LocalVisBackend"}]}
    with at_key("visualizer"):
        given = _in_work_dir(cfg, runner.work_dir)
        settings = {"type": "Visualizer", "name": runner.experiment_name, "save_dir": runner.log_dir, **given}
        backends = list(settings.get("vis_backends") or ())
        for position, each in enumerate(backends):
            with at_key(f"vis_backends[{position}]"):
                backends[position] = _in_work_dir(each, runner.work_dir)
        settings["vis_backends"] = backends
        built: Visualizer = VISUALIZERS.build(with_origins(settings, cfg))
    return built


def _in_work_dir(cfg: Any, work_dir: str) -> Any:
    """Returns a copy of a section with its `save_dir`, if any, placed in the work_dir. Objects pass unchanged."""
    if not isinstance(cfg, Mapping) or cfg.get("save_dir") is None:
        return cfg
    return with_origins({**cfg, "save_dir": output_path(work_dir, cfg["save_dir"], key="save_dir")}, cfg)


def build_log_processor(log_processor: Any, train_cfg: Any) -> LogProcessor:
    """Builds the log processor. The default one counts epochs or iterations like the training loop."""
    if isinstance(log_processor, LogProcessor):
        return log_processor
    with at_key("log_processor"):
        settings = {"type": "LogProcessor", "by_epoch": counts_epochs(train_cfg), **(log_processor or {})}
        built: LogProcessor = LOG_PROCESSORS.build(with_origins(settings, log_processor))
    return built


def counts_epochs(train_cfg: Any) -> bool:
    """Checks whether a training loop, or its config dict, counts epochs rather than iterations."""
    if isinstance(train_cfg, Mapping):
        return bool(train_cfg.get("by_epoch", "max_iters" not in train_cfg))
    return bool(getattr(train_cfg, "by_epoch", True))


def build_train_loop(runner: "Runner", cfg: Any, dataloader: Any) -> "BaseTrainLoop":
    """Builds the training loop. Without `type`, `by_epoch` selects one of the two built-in loops."""
    if not isinstance(cfg, Mapping):
        return _ready_loop(cfg, "train_cfg")  # type: ignore[no-any-return]
    settings = dict(cfg)
    if "type" not in settings:
        settings.pop("by_epoch", None)
        settings["type"] = "EpochBasedTrainLoop" if counts_epochs(cfg) else "IterBasedTrainLoop"
    with at_key("train_dataloader"):
        loader = build_dataloader(dataloader, seed=runner.seed)
        _refuse_dropping_all(loader)
    with at_key("train_cfg"):
        loop: BaseTrainLoop = LOOPS.build(with_origins(settings, cfg), runner=runner, dataloader=loader)
    if getattr(loader, "uneven", False):
        runner.register_hook(UnevenStepHook())
    return loop


def _refuse_dropping_all(loader: Any) -> None:
    if getattr(loader, "endless", False) or not getattr(loader, "drop_last", False):
        return
    if length_of(loader) == 0 and length_of(loader.dataset):
        few = f"{length_of(loader.dataset)} samples make no batch of {loader.batch_size}"
        raise DataError(f"{few}, and drop_last keeps no smaller one", key="drop_last")


def build_evaluation_loop(runner: "Runner", mode: str, sections: Mapping[str, Any]) -> Any:
    """Builds the validation or test loop, or returns None if the config has none.

    Args:
        runner: The runner.
        mode: "val" or "test".
        sections: The runner's arguments by name. The default `type` of the loop is ValLoop or TestLoop.
    """
    cfg = sections[f"{mode}_cfg"]
    if not isinstance(cfg, Mapping):
        return _ready_loop(cfg, f"{mode}_cfg")
    with at_key(f"{mode}_dataloader"):
        loader = build_loaders(sections[f"{mode}_dataloader"], runner.seed)
    with at_key(f"{mode}_evaluator"):
        evaluator = build_evaluators(sections[f"{mode}_evaluator"], loader)
    for name, each in evaluator.items() if isinstance(evaluator, Mapping) else [("", evaluator)]:
        each.key = f"{mode}_evaluator.{name}".rstrip(".")
    with at_key(f"{mode}_cfg"):
        settings = {"type": "ValLoop" if mode == "val" else "TestLoop", **cfg}
        return LOOPS.build(with_origins(settings, cfg), runner=runner, dataloader=loader, evaluator=evaluator)


def _ready_loop(loop: Any, key: str) -> Any:
    if loop is not None and not hasattr(loop, "run"):
        raise BuildError("a loop must be a loop or the dict of one", found=loop, key=key)
    return loop


def build_optimization(runner: "Runner", optim_wrapper: Any, auto_scale_lr: Mapping[str, Any] | None) -> Any:
    """Builds the optimizer wrapper with its optimizer, and scales the learning rate if `auto_scale_lr` asks for it."""
    built = build_optim_wrapper(runner.model, optim_wrapper)
    with at_key("auto_scale_lr"):
        scale_learning_rates(built, runner.train_loop.dataloader, auto_scale_lr)
    return built


def build_schedules(runner: "Runner", param_scheduler: Any) -> Any:
    """Builds the parameter schedules. Schedule objects pass unchanged."""
    loop = runner.train_loop
    return build_param_schedulers(
        param_scheduler,
        runner.optim_wrapper,
        epoch_length=length_of(loop.dataloader),
        max_epochs=loop.max_epochs,
        max_iters=loop.max_iters,
    )
