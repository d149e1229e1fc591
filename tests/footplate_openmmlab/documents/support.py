"""Runs of the documents' fragments: each within a small config of its generation, on scenes of real pictures."""

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from footplate import Config, Hook, Runner
from footplate.registry import HOOKS, MODELS
from footplate_vision.segmentation import SmallSegmentor


class Fragment(NamedTuple):
    """A code block of a document.

    Attributes:
        section: The heading of its section.
        text: The code as printed.
        mend: The smallest corrections with which the code runs, keyed by what is printed.
        why: The reason for the corrections or additions.
        beside: Lines that the code needs in addition, such as definitions of its values.
        holds: A condition that a run with the code must fulfill.
    """

    section: str
    text: str
    mend: dict[str, str] = {}
    why: str = ""
    beside: str = ""
    holds: Callable[[Runner], bool] = lambda runner: True

    def __str__(self) -> str:
        return self.section


# A list of hooks replaces the base's, which end the run.
AND_STOP = {"\n]": ",\n    dict(type='StopForTest')]"}


def hook_configs(section: str, section_of_priority: str) -> list[Fragment]:
    """Returns the two pieces with which a document puts its NewHook into a config: without a priority, and with one.

    Args:
        section: The heading it stands under.
        section_of_priority: That of the second.
    """
    written = {section: "", section_of_priority: ", priority='ABOVE_NORMAL'"}
    return [
        Fragment(
            heading,
            f"\ncustom_hooks = [\n    dict(type='NewHook', a=a_value, b=b_value{priority})\n]\n",
            mend=AND_STOP,
            beside="a_value, b_value = 2, 1",
            why="values are undefined; the list replaces the hooks of the base",
            holds=_has_priority(priority.partition("=")[2].strip("'") or "NORMAL"),
        )
        for heading, priority in written.items()
    ]


def _has_priority(priority: str) -> Callable[[Runner], bool]:
    return lambda runner: hook_of(runner, "NewHook").priority == priority


# Four scenes to train on and two to validate on; the dots are where the two generations differ.
_MODEL = """
pipeline = [dict(type="PackSegInputs")]
model = dict(
    type="{model}", num_classes=11, widths=(4, 8), depths=(1, 1),
    data_preprocessor=dict(type="SegDataPreProcessor", mean=[127.5] * 3, std=[64.0] * 3),
)
log_level = "WARNING"
"""
FIRST = """
data = dict(
    samples_per_gpu=2,
    workers_per_gpu=0,
    train=dict(type="FashionScenes", split="train", length=4, pipeline=pipeline),
    val=dict(type="FashionScenes", split="test", length=2, pipeline=pipeline),
)
optimizer = dict(type="SGD", lr=0.01, weight_decay=0.0001)
optimizer_config = dict(grad_clip=None)
lr_config = dict(policy="fixed")
runner = dict(type="EpochBasedRunner", max_epochs=12)
checkpoint_config = dict(interval=12)
evaluation = dict(interval=12, metric="mIoU")
custom_hooks = [dict(type="StopForTest")]
seed = 0
"""
SECOND = """
train_dataloader = dict(
    batch_size=2,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(type="FashionScenes", split="train", length=4, pipeline=pipeline),
)
val_dataloader = dict(
    batch_size=2,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(type="FashionScenes", split="test", length=2, pipeline=pipeline),
)
optimizer = dict(type="SGD", lr=0.01)
optim_wrapper = dict(type="OptimWrapper", optimizer=optimizer)
train_cfg = dict(by_epoch=True, max_epochs=400, val_interval=400)
val_cfg = dict()
val_evaluator = dict(type="IoUMetric")
default_hooks = dict(checkpoint=dict(interval=400))
custom_hooks = [dict(type="StopForTest")]
randomness = dict(seed=0)
"""


@HOOKS.register_module()
class StopForTest(Hook):
    """Ends a run after a few iterations, or at the end of the epoch they are in; keeps losses and rates."""

    priority = "LOWEST"

    def __init__(self, iterations: int = 3) -> None:
        self.iterations = iterations
        self.losses: list[float] = []
        self.rates: list[float] = []

    def before_train_iter(self, runner: Any) -> None:  # type: ignore[override]
        self.rates.append(runner.optim_wrapper.param_groups[0]["lr"])

    def after_train_iter(self, runner: Any, outputs: Any) -> None:  # type: ignore[override]
        self.losses.append(float(outputs["loss"]))
        if runner.iter + 1 >= self.iterations:
            runner.train_loop.stop_training = True


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, features: Tensor) -> Tensor:
        return torch.relu(self.norm(self.mix(features)))


class ConvNeXt(nn.Module):
    """A backbone with the names that settings by layer look for, a fraction of its size."""

    def __init__(self) -> None:
        super().__init__()
        self.downsample_layers = nn.ModuleList(nn.Conv2d(width, 4, 1) for width in (3, 4))
        self.stages = nn.ModuleList(nn.ModuleList([_Block(4)]) for _ in range(2))

    def forward(self, picture: Tensor) -> Tensor:
        for down, stage in zip(self.downsample_layers, self.stages, strict=True):
            picture = stage[0](down(picture))  # type: ignore[index]
        return picture


@MODELS.register_module()
class SegmentorForTest(SmallSegmentor):
    """The shipped segmentor with parts that the documents' settings name: a backbone, tokens, norms."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.backbone = ConvNeXt()
        self.pos_embed = nn.Parameter(torch.zeros(1, 3, 1, 1))
        self.cls_token = nn.Parameter(torch.zeros(1, 3, 1, 1))
        self.mask_token = nn.Parameter(torch.zeros(1, 3, 1, 1))
        self.ln = nn.GroupNorm(1, 3)
        self.downsample = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
        self.bn1 = nn.BatchNorm2d(3)
        self.hyper_parameter = 0.0

    def forward(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        added = self.bn1(self.downsample(self.ln(inputs + self.pos_embed + self.cls_token + self.mask_token)))
        return super().forward(inputs + added + self.backbone(inputs).mean(1, keepdim=True), *args, **kwargs)


def mended(fragment: Fragment) -> str:
    """Returns the text with its mends; each of them has to be needed and to fit."""
    text = fragment.text
    for printed, right in fragment.mend.items():
        assert printed in text, printed
        text = text.replace(printed, right)
    assert bool(fragment.mend or fragment.beside) == bool(fragment.why), fragment.section
    return text


def write_modules(folder: Path, monkeypatch: pytest.MonkeyPatch, package: str, files: dict[str, Fragment]) -> None:
    """Writes code blocks as modules of a package that can be imported."""
    for name, fragment in files.items():
        path = folder / "path" / package / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(mended(fragment))
    monkeypatch.syspath_prepend(str(folder / "path"))


def config_of(folder: Path, fragment: Fragment, *, generation: str, model: str = "SmallSegmentor") -> Config:
    """Writes a base and a config that inherits it, with the fragment in it, and reads the config."""
    (folder / "base.py").write_text(_MODEL.format(model=model) + {"first": FIRST, "second": SECOND}[generation])
    lines = ["_base_ = './base.py'", "optimizer = {{_base_.optimizer}}", fragment.beside, mended(fragment)]
    if "optimizer = dict" in fragment.text or generation == "first":
        lines.remove("optimizer = {{_base_.optimizer}}")
    (folder / "config.py").write_text("\n".join(textwrap.dedent(line) for line in lines) + "\n")
    cfg = Config.fromfile(folder / "config.py")
    cfg["work_dir"] = str(folder / "work")
    return cfg


def train(folder: Path, fragment: Fragment, *, generation: str, model: str = "SmallSegmentor") -> Runner:
    """Trains a few iterations with a fragment."""
    runner = Runner.from_cfg(config_of(folder, fragment, generation=generation, model=model))
    runner.train()
    return runner


def stop_of(runner: Runner) -> StopForTest:
    """Returns the hook that ended the run."""
    return next(hook for hook in runner.hooks if isinstance(hook, StopForTest))


def hook_of(runner: Runner, name: str) -> Any:
    """Returns a hook by the name of its class."""
    return next(hook for hook in runner.hooks if type(hook).__name__ == name)


def group_of(runner: Runner, parameter: str) -> dict[str, Any]:
    """Returns the optimizer's group that holds a parameter."""
    wanted = dict(runner.model.named_parameters())[parameter]
    groups = runner.optim_wrapper.param_groups
    return next(group for group in groups if any(each is wanted for each in group["params"]))


@HOOKS.register_module()
class MyHookForTest(Hook):
    """Stands for the hook that the documents' configs name."""

    def __init__(self, a: float, b: float) -> None:
        self.values = a, b
