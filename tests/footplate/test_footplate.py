import subprocess
import sys

import footplate

NAMES = [
    *["BaseModel", "Config", "DATASETS", "DATA_SAMPLERS", "EVALUATOR", "FUNCTIONS", "HOOKS", "Hook", "INFERENCERS"],
    *["LOG_PROCESSORS", "LOOPS", "METRICS", "MODELS", "MODEL_WRAPPERS", "OPTIMIZERS", "OPTIMIZER_BUILDERS"],
    *[
        "OPTIM_WRAPPERS",
        "OPTIM_WRAPPER_CONSTRUCTORS",
        "PARAM_SCHEDULERS",
        "RUNNERS",
        "RUNNER_CONSTRUCTORS",
        "Registry",
        "Runner",
    ],
    *["STRATEGIES", "TASK_UTILS", "TRANSFORMS", "VISBACKENDS", "VISUALIZERS", "WEIGHT_INITIALIZERS"],
    "simulate",
]


def test_every_name_resolves() -> None:
    for name in NAMES:
        found = getattr(footplate, name)
        assert getattr(found, "__name__", name) == name or not isinstance(found, type)


def test_names_resolve_on_first_use() -> None:
    steps = [
        "import footplate",
        "footplate.Config",
        "footplate.HOOKS",
    ]
    code = "; ".join(f"{step}; print('torch' in sys.modules, 'footplate.hooks' in sys.modules)" for step in steps)
    found = subprocess.run([sys.executable, "-c", f"import sys; {code}"], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines() == ["False False", "False False", "False False"]
