from pathlib import Path

import pytest

from footplate.config import Config
from footplate.engine.plan.plan import RunPlan
from footplate.errors import UnknownNameError

CONFIG = """
custom_imports = dict(imports=['tests.support'])
work_dir = 'run'
model = dict(type='FirstOfTwo')
custom_hooks = [dict(type='SecondOfTwo'), dict(type='mmtrack.SomeHook'), dict(type='ToyHook')]
"""


def test_all_unknown_classes_are_reported_at_once(current_folder: Path) -> None:
    for name in ("First", "Second"):
        (current_folder / f"{name.lower()}.py").write_text(f"class {name}OfTwo: ...\n")
    with pytest.raises(UnknownNameError) as caught:
        RunPlan.from_config(Config.fromstring(CONFIG, ".py")).check()
    assert caught.value.notes[:2] == (
        "'FirstOfTwo' is defined in first.py. Add custom_imports = dict(imports=['first']).",
        "For all unknown classes of this config: custom_imports = dict(imports=['tests.support', 'first', 'second']).",
    )
    assert [note for note in caught.value.notes[2:] if "mmtrack" in note]
