import subprocess
import sys
from pathlib import Path

from footplate import registry
from footplate.registry import ROOT_REGISTRIES, Registry


def test_root_registries_are_exported_under_mmengine_names() -> None:
    assert set(registry.__all__) >= {*ROOT_REGISTRIES, "Registry"}
    assert set(ROOT_REGISTRIES) >= {
        *("RUNNERS", "RUNNER_CONSTRUCTORS", "LOOPS", "HOOKS", "LOG_PROCESSORS", "STRATEGIES", "INFERENCERS"),
        *("DATASETS", "DATA_SAMPLERS", "TRANSFORMS", "FUNCTIONS", "MODELS", "MODEL_WRAPPERS", "WEIGHT_INITIALIZERS"),
        *("OPTIMIZERS", "OPTIM_WRAPPERS", "OPTIM_WRAPPER_CONSTRUCTORS", "PARAM_SCHEDULERS", "TASK_UTILS"),
        *("METRICS", "EVALUATOR", "VISUALIZERS", "VISBACKENDS"),
    }
    for name, root in ROOT_REGISTRIES.items():
        assert isinstance(root, Registry)
        assert getattr(registry, name) is root
        assert root.scope == "footplate"


def test_every_task_is_imported_on_a_lookup_that_needs_it() -> None:
    folder = Path(registry.__file__).parents[1] / "tasks"
    tasks = sorted(path.parent.name for path in folder.glob("*/__init__.py"))
    code = "import sys; from footplate.registry import MODELS; 'Unknown' in MODELS; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "segmentation" in tasks
    assert {f"footplate.tasks.{name}" for name in tasks} <= set(done.stdout.split())
