"""Checks that published first-generation configs are translated and migrated without loss.

    python -m benchmarks migration [NAME-VERSION ...]

Downloads the wheels (with pip, once, into the cache) and migrates each config that defines a complete run. It compares
the published file with the migrated one: the translation, learning rate, momentum and weight decay of every parameter
of a toy model, and the assembled run (steps, loops, the order of hooks).
Prints a table, and the files that do not define a run with the reason.
"""

import argparse
import functools
import inspect
import logging
import runpy
import tempfile
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from benchmarks.corpus import fetch
from benchmarks.environments import ROOT
from benchmarks.tables import plain
from footplate.config import Config
from footplate.engine.control.hook_list import build_hooks
from footplate.errors import BuildError, FootplateError
from footplate.optim import OptimWrapperDict, build_optim_wrapper
from footplate.registry import HOOKS, OPTIM_WRAPPER_CONSTRUCTORS, OPTIMIZER_BUILDERS, OPTIMIZERS
from footplate.tools.simulation import simulate
from footplate_openmmlab.first_generation.adapters import Hook
from footplate_openmmlab.first_generation.translation.config_translation import translate
from footplate_openmmlab.first_generation.translation.schedule_rules import KNOWN_POLICIES

WHEELS = ("mmsegmentation-0.30.0", "mmdet-2.28.2", "mmselfsup-0.11.0")
EPOCH_LENGTH = 11
_LENGTHS = ("runner", "total_epochs", "total_iters")


class Outcome(NamedTuple):
    """The results for the configs of one wheel.

    Attributes:
        name: The wheel, `mmdet-2.28.2`.
        configs: The number of configs that define a complete run.
        translated: How many of them are translated.
        migrated: How many of the written files are equal to the translation.
        simulated: How many give every parameter the same settings over time as the published file.
        assembled: How many assemble the same run as the published file.
        wrong: The errors by file.
        parts: The reason why a file does not define a run, by file.
    """

    name: str
    configs: int
    translated: int
    migrated: int
    simulated: int
    assembled: int
    wrong: dict[str, str]
    parts: dict[str, str]


def check(name: str, *, one_per_folder: bool = False) -> Outcome:
    """Migrates and compares the configs of a wheel, or the first configs of its folders."""
    folder = next(fetch(name).glob("*/.mim/configs"), None)
    if folder is None:
        raise SystemExit(f"the wheel {name} carries no configs")
    wrong: dict[str, str] = {}
    parts: dict[str, str] = {}
    counts = dict.fromkeys(("configs", "translated", "migrated", "simulated", "assembled"), 0)
    paths = sorted(folder.rglob("*.py"))
    if one_per_folder:
        paths = list({path.parent: path for path in reversed(paths)}.values())
    with tempfile.TemporaryDirectory() as target, _stand_ins():
        for path in paths:
            place = str(path.relative_to(folder))
            try:
                reason = _no_run(path)
                if reason is not None:
                    parts[place] = reason
                    continue
                old = Config.fromfile(path, import_custom_modules=False)
                _register_missing(old)
                refusal = _refusal(old)
                if refusal is not None:
                    parts[place] = f"refused as it is published: {refusal}"
                    continue
                counts["configs"] += 1
                _compare(old, Path(target, "new.py"), counts)
            except (FootplateError, AssertionError) as error:
                wrong[place] = str(error)
    return Outcome(name, **counts, wrong=wrong, parts=parts)


def _no_run(path: Path) -> str | None:
    """Returns the reason why a file does not define a complete run, or None if it does."""
    try:
        config = Config.fromfile(path, import_custom_modules=False)
    except FootplateError as error:
        return f"does not load as it is published: {error.message}"
    if "_base_" in path.parts:
        return "a part of others"
    if "model" not in config:
        return "no model: a part of others, or of another program"
    if not any(key in config for key in _LENGTHS):
        return "nothing says how long it trains"
    return None if (config.get("data") or {}).get("train") else "no data to train on"


def _refusal(old: Config) -> str | None:
    """Returns the reason why no engine can build a published config, or None."""
    try:
        _simulated(old)
    except BuildError as error:
        return f"{error.key}: {error.message}"
    return None


def _compare(old: Config, target: Path, counts: dict[str, int]) -> None:
    twin = translate(old)
    counts["translated"] += 1
    twin.dump(target)
    new = Config.fromfile(target, import_custom_modules=False)
    _same([key for key, value in twin.to_dict().items() if new.get(key) != value], [], "migrated")
    counts["migrated"] += 1
    _same(_simulated(old), _simulated(new), "simulated")
    counts["simulated"] += 1
    expected = _published(old)
    _same(_assembled(new, {name for name, _ in expected["order"]}), expected, "assembled")
    counts["assembled"] += 1


def _same(found: Any, expected: Any, what: str) -> None:
    if found != expected:
        raise AssertionError(f"{what}: {found} is not {expected}")


def _simulated(cfg: Config) -> Any:
    """Returns the settings of every parameter at some iterations of the run. Equal configs are simulated only once."""
    sections = translate(cfg)
    kind = (cfg["model"].get("backbone") or {}).get("type")
    said = {key: sections.get(key) for key in ("optim_wrapper", "param_scheduler", "train_cfg")}
    # The published and the migrated config are simulated separately.
    key = f"{sections is cfg} {kind} {said}"
    if key not in _SEEN:
        _SEEN[key] = simulate(cfg, _model(cfg), epoch_length=EPOCH_LENGTH, iters=_iterations(sections["train_cfg"]))
    return _SEEN[key]


_SEEN: dict[str, Any] = {}


def _iterations(train_cfg: Mapping[str, Any]) -> list[int]:
    total = train_cfg.get("max_iters") or train_cfg["max_epochs"] * EPOCH_LENGTH
    iters = sorted({*range(0, min(total, 12)), *(total * part // 16 for part in range(16)), total - 1})
    if train_cfg.get("max_iters"):
        iters = [each for each in iters if each < 2000 or each == total // 16]
    return iters


def _assembled(cfg: Config, named: Container[str]) -> dict[str, Any]:
    """Returns the settings of the run that a migrated config assembles; `named` selects the hooks in `order`."""
    wrapper = build_optim_wrapper(_model(cfg), cfg["optim_wrapper"])
    wrappers = list(wrapper.values()) if isinstance(wrapper, OptimWrapperDict) else [wrapper]
    hooks = build_hooks(cfg.get("default_hooks"), _typed(cfg))
    by_name: dict[str, Any] = {type(hook).__name__: hook for hook in hooks}
    saving, logging_hook, loader = by_name.get("CheckpointHook"), by_name["LoggerHook"], cfg["train_dataloader"]
    interval = cfg["train_cfg"].get("val_interval") if "val_cfg" in cfg else None
    own: Mapping[str, Any] = next((each for each in _typed(cfg) if each["type"] == "EvalHook"), {})
    step = next(iter(_sections(cfg["optim_wrapper"])))
    if step["type"] == "SteppedByHook":
        step = next(each for each in _typed(cfg) if each["priority"] == "ABOVE_NORMAL")
    return {
        "clip": step.get("clip_grad", step.get("grad_clip")),
        "accumulation": wrappers[0]._accumulative_counts,
        "precision": type(wrappers[0]).__name__ == "AmpOptimWrapper" or "Fp16" in step["type"],
        "length": cfg["train_cfg"].get("max_epochs") or cfg["train_cfg"].get("max_iters"),
        "evaluation": own.get("interval", interval),
        "metric": cfg["val_evaluator"].get("metric") if "val_evaluator" in cfg else None,
        "checkpoint": getattr(saving, "interval", None),
        "kept": getattr(saving, "max_keep_ckpts", None),
        "log": logging_hook.interval,
        "batch": (loader["batch_size"], loader.get("num_workers")),
        "order": [(type(hook).__name__, hook.priority) for hook in hooks if type(hook).__name__ in named],
    }


def _published(cfg: Config) -> dict[str, Any]:
    """Returns the same settings, read from the keys of a first-generation config."""
    step, fp16 = cfg.get("optimizer_config") or {}, cfg.get("fp16")
    runner = cfg.get("runner") or {}
    evaluation = cfg.get("evaluation")
    evaluates = evaluation is not None and bool(cfg["data"].get("val"))
    saving, data = cfg.get("checkpoint_config") or {}, cfg["data"]
    sizes = ("samples_per_gpu", "imgs_per_gpu", "videos_per_gpu")
    loading = {**data, **(data.get("train_dataloader") or {})}
    return {
        "clip": step.get("grad_clip"),
        "accumulation": step.get("cumulative_iters", step.get("update_interval", 1)),
        "precision": fp16 is not None or "Fp16" in step.get("type", ""),
        "length": next(
            value
            for value in (
                runner.get("max_epochs"),
                runner.get("max_iters"),
                cfg.get("total_epochs"),
                cfg.get("total_iters"),
            )
            if value
        ),
        "evaluation": evaluation.get("interval", 1) if evaluates else None,
        "metric": evaluation.get("metric") if evaluates else None,
        "checkpoint": saving.get("interval", -1),
        "kept": saving.get("max_keep_ckpts", -1),
        "log": cfg["log_config"]["interval"],
        "batch": (next((loading[each] for each in sizes if each in loading), 2), loading.get("workers_per_gpu")),
        "order": _order(_typed(cfg), step, cfg.get("lr_config") or {}),
    }


def _typed(cfg: Config) -> list[Any]:
    """Returns the custom hooks that have a type; one published config has an entry without."""
    return [each for each in cfg.get("custom_hooks") or [] if "type" in each]


_NAMED = {
    "ParamSchedulerHook": "VERY_HIGH",
    "CheckpointHook": "NORMAL",
    "IterTimerHook": "LOW",
    "LoggerHook": "VERY_LOW",
    "NumClassCheckHook": "NORMAL",
}


def _order(
    custom_hooks: list[Mapping[str, Any]], step: Mapping[str, Any], schedule: Mapping[str, Any]
) -> list[tuple[str, Any]]:
    """Returns the hooks in the order of mmcv: by priority, and by registration for equal priorities.

    Only the CheckpointHook comes after all others here, so that a checkpoint includes their changes.
    """
    from footplate.engine import get_priority

    hooks = [(name, priority) for name, priority in _NAMED.items() if name != "NumClassCheckHook"]
    if str(step.get("type", "OptimizerHook")).removeprefix("GradientCumulative") not in _STEPS:
        hooks.append((step["type"], "ABOVE_NORMAL"))
    hooks += [(each["type"].rpartition(".")[2], each.get("priority", "NORMAL")) for each in custom_hooks]
    policy = str(schedule.get("policy"))
    if schedule and policy.casefold() not in _POLICIES:
        hooks.append((f"{policy}LrUpdaterHook", "VERY_HIGH"))
    return sorted(hooks, key=lambda each: (each[0] == "CheckpointHook", get_priority(each[1])))


_STEPS = ("OptimizerHook", "Fp16OptimizerHook", "DistOptimizerHook")
_POLICIES = {each.casefold() for each in KNOWN_POLICIES}


def _sections(wrapper: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Returns the settings of a single optimizer, or of each of several optimizers."""
    return [wrapper] if "optimizer" in wrapper else list(wrapper.values())


def _model(cfg: Config) -> nn.Module:
    """Returns a toy model with the backbone name of the config; for several optimizers, one toy per optimizer."""
    wrapper = cfg.get("optim_wrapper") or {}
    given = cfg.get("optimizer") or cfg.get("optimizers") or {}
    names = [name for name in wrapper or given if "optimizer" not in wrapper and "type" not in given]
    if names:
        return nn.ModuleDict({name: _like(_toy()(), cfg) for name in names})
    return _like(_toy()(), cfg)


def _like(model: nn.Module, cfg: Config) -> nn.Module:
    """Gives the backbone of the toy the class name that layer-wise settings depend on."""
    kind = str((cfg["model"].get("backbone") or {}).get("type", "")).rpartition(".")[2]
    if kind:
        backbone: Any = model.backbone
        backbone.__class__ = type(kind, (type(backbone),), {})
    return model


class _StandIn(Hook):
    """A stand-in for a hook of a code base that is not installed."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings


class _PlainConstructor:
    """A stand-in for an optimizer constructor of a code base that is not installed."""

    def __init__(self, optimizer_cfg: Mapping[str, Any], paramwise_cfg: Any = None) -> None:
        self.cfg = dict(optimizer_cfg)

    def __call__(self, model: nn.Module) -> Any:
        names = inspect.signature(OPTIMIZERS.get(self.cfg["type"])).parameters
        known = {key: value for key, value in self.cfg.items() if key == "type" or key in names}
        return OPTIMIZERS.build({**known, "params": list(model.parameters())})


@contextmanager
def _stand_ins() -> Iterator[None]:
    """Removes the entries that `_register_missing` registers."""
    before = {each: dict(each.module_dict) for each in (HOOKS, OPTIMIZER_BUILDERS)}
    try:
        yield
    finally:
        for registry, entries in before.items():
            registry._entries.clear()
            registry._entries.update(entries)


def _register_missing(old: Config) -> None:
    """Registers stand-ins for components of code bases that are not installed."""
    policy = str((old.get("lr_config") or {}).get("policy"))
    for hook in (*_typed(old), old.get("optimizer_config") or {}, {"type": f"{policy}LrUpdaterHook"}):
        name = str(hook.get("type", "")).rpartition(".")[2]
        if name and name not in HOOKS:
            HOOKS.register_module(name=name, module=type(name, (_StandIn,), {}))
    constructor = (old.get("optimizer") or {}).get("constructor")
    if constructor and constructor not in OPTIM_WRAPPER_CONSTRUCTORS and constructor not in OPTIMIZER_BUILDERS:
        OPTIMIZER_BUILDERS.register_module(name=constructor, module=_PlainConstructor)


@functools.cache
def _toy() -> Any:
    return runpy.run_path(str(ROOT / "tests" / "data" / "vectors" / "toy.py"))["Toy"]


def main() -> int:
    """Prints the table; returns 1 if anything differs."""
    parser = argparse.ArgumentParser(description="Migrates published first-generation configs and compares.")
    parser.add_argument("wheels", nargs="*", metavar="NAME-VERSION", default=WHEELS)
    logging.disable(logging.WARNING)
    outcomes = [check(name) for name in parser.parse_args().wheels]
    print(plain(("wheel", *Outcome._fields[1:6]), [each[:6] for each in outcomes]))
    for each in outcomes:
        lines = [f"{each.name}/{path}: {reason}" for path, reason in each.parts.items() if "_base_" not in path]
        within = len(each.parts) - len(lines)
        print(f"{each.name}: {within} parts below _base_; {len(lines)} other files define no run", *lines, sep="\n")
    for each in outcomes:
        for path, reason in each.wrong.items():
            print(f"wrong: {each.name}/{path}: {reason}")
    return 1 if any(each.wrong for each in outcomes) else 0


if __name__ == "__main__":
    raise SystemExit(main())
