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
