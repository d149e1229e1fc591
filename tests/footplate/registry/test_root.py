from footplate_vision.extension import Vision
from tests import programs
from tests.footplate.cli.conftest import environment


def test_every_task_is_imported_on_a_lookup_that_needs_it() -> None:
    tasks = Vision.locations["model"]
    code = "import sys; from footplate.registry import MODELS; 'Unknown' in MODELS; print(*sys.modules)"
    done = programs.run("-c", code, folder=".", environment=environment())
    assert len(tasks) == 4
    assert {*tasks} <= set(done.stdout.split())


def test_lookup_of_a_user_class_imports_nothing_and_replacing_a_built_in_is_reported_at_once() -> None:
    code = """
import sys, torch
from footplate.registry import MODELS

class Own(torch.nn.Module): ...
class SmallSegmentor(torch.nn.Module): ...

before = set(sys.modules)
for kind in (Own, SmallSegmentor):
    MODELS.register_module(kind)
    assert MODELS.get(kind.__name__) is kind
print(len({name for name in sys.modules if name.startswith("footplate")} - before))
MODELS.module_dict  # imports the built-in classes
print(MODELS.get("SmallSegmentor") is SmallSegmentor)
"""
    done = programs.run("-c", code, folder=".", environment=environment())
    assert done.stdout.split() == ["0", "True"]
    assert done.stderr.count("Replacing the built-in") == 1
    assert "Replacing the built-in model 'SmallSegmentor' with __main__.SmallSegmentor." in done.stderr
