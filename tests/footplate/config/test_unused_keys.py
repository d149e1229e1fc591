from pathlib import Path

import pytest

from footplate.config import Config, find_unused_changes
from footplate.tools.overrides import apply_overrides

BASE = """
size = (64, 64)
names = ['a', 'b']
optimizer = dict(type='SGD', lr=0.1)
unread = 3
epochs = 300
optim_wrapper = dict(type='OptimWrapper', optimizer=optimizer)
half = epochs // 2
model = dict(
    type='Model', size=size, classes=len(names), epochs=epochs, max_per_img=300, switch=epochs - 20,
    steps=[epochs - 9, 300], **{'more': 1}, half=half)
"""
READ_BY_RUN = {"model", "optim_wrapper"}
READ = "because other keys already use the previous value"


@pytest.fixture
def base(current_folder: Path) -> Path:
    (current_folder / "base.py").write_text(BASE)
    return current_folder


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (
            "optimizer = dict(lr=0.2)",
            [f"child.py:2: 'optimizer.lr' has no effect, {READ}; set optim_wrapper.optimizer.lr instead"],
        ),
        (
            "size = (32, 32)",
            [f"child.py:2: 'size' has no effect, {READ}; set model.size instead"],
        ),
        (
            "epochs = 3",
            [
                f"child.py:2: 'epochs' has no effect, {READ}; "
                "set model.epochs, model.switch, model.steps, model.half instead"
            ],
        ),
        (
            "optim_wrapper = dict(optimizer=dict(lr=0.3))\noptimizer = dict(lr=0.2)",
            [f"child.py:3: 'optimizer.lr' has no effect, {READ}; set optim_wrapper.optimizer.lr instead"],
        ),
        ("size = (32, 32)\nmodel = dict(size=size)", []),
        ("unread = 4\nown = 5", []),
    ],
)
def test_variable_changed_too_late_by_a_child_is_reported(base: Path, lines: str, told: list[str]) -> None:
    (base / "child.py").write_text(f"_base_ = 'base.py'\n{lines}\n")
    assert list(map(str, find_unused_changes(Config.fromfile("child.py"), READ_BY_RUN))) == told


@pytest.mark.parametrize(
    ("lines", "override", "told"),
    [
        (
            "classes = 5\nmodel = dict(head=dict(classes=classes, size=5))",
            "classes=7",
            "; set model.head.classes instead",
        ),
        ("few = 5\nmodel = dict(head=dict(a=few, b=[few]))", "few=7", "; set model.head.a, model.head.b instead"),
        ("on = True\nmodel = dict(a=on, b=True)", "on=False", f"{READ}; set model.a instead"),
        (
            "steps = [dict(type='A', size=(1, 2))]\nmodel = dict(a=steps, b=[dict(b=2), dict(size=3)])",
            "steps.0.size=3,4",
            "'steps[0].size' has no effect, because other keys already use the previous value; "
            "set model.a[0].size instead",
        ),
    ],
)
def test_override_of_a_variable_lists_the_keys_with_its_value(
    tmp_path: Path, lines: str, override: str, told: str
) -> None:
    (tmp_path / "a.py").write_text(lines)
    cfg = Config.fromfile(tmp_path / "a.py")
    apply_overrides(cfg, [override])
    (change,) = find_unused_changes(cfg, READ_BY_RUN)
    assert told in str(change)


@pytest.mark.parametrize("name", ["a.py", "a.json"])
def test_override_of_an_unread_variable_is_reported(tmp_path: Path, name: str) -> None:
    text = {"a.py": "classes = 5\nmodel = dict(head=5)", "a.json": '{"classes": 5, "model": {"head": 5}}'}[name]
    (tmp_path / name).write_text(text)
    cfg = Config.fromfile(tmp_path / name)
    assert find_unused_changes(cfg, READ_BY_RUN) == []
    apply_overrides(cfg, ["classes=7", "+more=1"])
    assert list(map(str, find_unused_changes(cfg, READ_BY_RUN))) == [
        "--set: 'classes' has no effect unless your own code reads it: neither the config nor footplate uses it"
    ]
