import sys
from pathlib import Path

import pytest

from footplate.errors import DuplicateNameError, UnknownNameError
from footplate.registry import MODELS
from footplate_openmmlab.code_bases import Registry
from footplate_openmmlab.mmengine.registry_members import RegistryMembers
from footplate_openmmlab.mmengine.runner_members import add_members


def removed(parent: object, scope: str) -> None:
    parent.children.pop(scope)  # type: ignore[attr-defined]


def test_registries_of_one_scope_share_their_entries() -> None:
    models = Registry("models", parent=MODELS, scope="shares")
    try:
        attention = Registry("attention", parent=MODELS, scope="shares")
        attention.register_module("Window", module=lambda: "window")
        assert models.build({"type": "Window"}) == "window"
        assert MODELS.children["shares"] is models
        with pytest.raises(DuplicateNameError, match="'Window' is already registered"):
            models.register_module("Window", module=lambda: "another")
        with pytest.raises(UnknownNameError, match="unknown model 'Wall'"):
            models.build({"type": "Wall"})
    finally:
        removed(MODELS, "shares")


def test_members_for_code_bases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shapes_of_a_code_base.py").write_text(
        "from footplate.registry import Registry\n"
        "SHAPES = Registry('shape', lambda cfg, registry: registry.get(cfg['type']), None, None, ['more_shapes'])\n"
    )
    (tmp_path / "more_shapes.py").write_text(
        "from shapes_of_a_code_base import SHAPES\n@SHAPES.register_module()\nclass Round: pass\n"
    )
    add_members(RegistryMembers)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = __import__("shapes_of_a_code_base")
    assert found.SHAPES.scope == "shapes_of_a_code_base"
    assert "more_shapes" not in sys.modules
    found.SHAPES.import_from_location()
    assert list(found.SHAPES._entries) == ["Round"]
    assert found.SHAPES.build({"type": "Round"}) is sys.modules.pop("more_shapes").Round
    assert found.SHAPES.build_func({"type": "Round"}, registry=found.SHAPES).__name__ == "Round"
    assert found.SHAPES._module_dict.pop("Round").__name__ == "Round"
    assert "Round" not in found.SHAPES
