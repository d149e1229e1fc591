import os
import subprocess
import sys
from pathlib import Path

import pytest

from footplate import registry
from footplate.registry import ROOT_REGISTRIES, Registry


def test_root_registries_have_mmengine_names() -> None:
    assert set(ROOT_REGISTRIES) >= {
        *("RUNNERS", "RUNNER_CONSTRUCTORS", "LOOPS", "HOOKS", "LOG_PROCESSORS", "STRATEGIES", "INFERENCERS"),
        *("DATASETS", "DATA_SAMPLERS", "TRANSFORMS", "FUNCTIONS", "MODELS", "MODEL_WRAPPERS", "WEIGHT_INITIALIZERS"),
        *("OPTIMIZERS", "OPTIM_WRAPPERS", "OPTIM_WRAPPER_CONSTRUCTORS", "PARAM_SCHEDULERS", "TASK_UTILS"),
        *("METRICS", "EVALUATOR", "VISUALIZERS", "VISBACKENDS"),
    }
    assert all(getattr(registry, name) is found for name, found in ROOT_REGISTRIES.items())
    assert {each.scope for each in ROOT_REGISTRIES.values()} == {"footplate"}


def test_root_registries_are_exported() -> None:
    assert set(registry.__all__) >= {*ROOT_REGISTRIES, "Registry"}
    assert all(isinstance(each, Registry) for each in ROOT_REGISTRIES.values())


@pytest.mark.parametrize(
    ("name", "entries"),
    [
        ("LOG_PROCESSORS", {"LogProcessor"}),
        ("VISBACKENDS", {"LocalVisBackend"}),
        ("LOOPS", {"EpochBasedTrainLoop", "IterBasedTrainLoop", "ValLoop", "TestLoop"}),
        ("RUNNERS", {"Runner"}),
        ("METRICS", {"DumpResults"}),
        ("EVALUATOR", {"Evaluator"}),
        ("OPTIMIZERS", {"SGD", "Adam", "AdamW", "Adagrad", "RMSprop", "LBFGS"}),
        ("OPTIM_WRAPPERS", {"OptimWrapper", "AmpOptimWrapper"}),
        ("DATA_SAMPLERS", {"DefaultSampler", "InfiniteSampler"}),
        ("FUNCTIONS", {"pseudo_collate", "default_collate"}),
        ("VISUALIZERS", {"Visualizer"}),
        ("MODEL_WRAPPERS", {"MMDistributedDataParallel"}),
        (
            "HOOKS",
            {
                *("RuntimeInfoHook", "IterTimerHook", "DistSamplerSeedHook", "LoggerHook", "ParamSchedulerHook"),
                *("CheckpointHook", "CurveHook", "ProgressHook"),
            },
        ),
        ("PARAM_SCHEDULERS", {"LinearLR", "ConstantLR", "MultiStepLR", "CosineAnnealingLR", "PolyLR"}),
    ],
)
def test_built_ins_have_mmengine_names(name: str, entries: set[str]) -> None:
    assert set(ROOT_REGISTRIES[name]) >= entries


def test_every_task_is_imported_on_a_lookup_that_needs_it() -> None:
    folder = Path(registry.__file__).parents[1] / "tasks"
    tasks = sorted(each.parent.name for each in folder.glob("*/__init__.py"))
    code = "import sys; from footplate.registry import MODELS; 'Unknown' in MODELS; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert "segmentation" in tasks
    assert {f"footplate.tasks.{name}" for name in tasks} <= set(done.stdout.split())
