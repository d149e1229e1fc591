from pathlib import Path

import pytest

from footplate import Config
from footplate.config import apply_overrides, unread_overrides, without_effect

BASE = """
size = (64, 64)
names = ['a', 'b']
optimizer = dict(type='SGD', lr=0.1)
unread = 3
optim_wrapper = dict(type='OptimWrapper', optimizer=optimizer)
model = dict(type='Model', size=size, classes=len(names))
"""
KNOWN = {"model", "optim_wrapper"}
KEEPS = "keeps the value from before"


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.py").write_text(BASE)
    return tmp_path


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (
            "optimizer = dict(lr=0.2)",
            [
                f"child.py:2: 'optimizer.lr' has no effect: what read 'optimizer' {KEEPS}; "
                "--set optim_wrapper.optimizer.lr=... reaches it"
            ],
        ),
        (
            "size = (32, 32)",
            [f"child.py:2: 'size' has no effect: what read 'size' {KEEPS}; --set model.size=... reaches it"],
        ),
        ("names = ['c']", [f"child.py:2: 'names' has no effect: what read 'names' {KEEPS}"]),
        ("size = (32, 32)\nmodel = dict(size=size)", []),
        ("optimizer = dict(lr=0.1)", []),
        ("optim_wrapper = dict(optimizer=dict(lr=0.2))", []),
        ("unread = 4\nown = 5", []),
    ],
)
def test_a_variable_that_a_child_changes_too_late_is_told(base: Path, lines: str, told: list[str]) -> None:
    (base / "child.py").write_text(f"_base_ = 'base.py'\n{lines}\n")
    assert without_effect(Config.fromfile("child.py"), KNOWN) == told


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("optimizer.lr=0.2", ["--set: 'optimizer.lr' has no effect"]),
        ("size=(32,32)", ["--set: 'size' has no effect"]),
        ("optimizer.lr=0.1", []),
        ("optim_wrapper.optimizer.lr=0.2", []),
        ("unread=4", []),
    ],
)
def test_an_override_reaches_no_variable_that_was_read(base: Path, override: str, told: list[str]) -> None:
    cfg = Config.fromfile("base.py")
    apply_overrides(cfg, [override])
    assert [sentence.partition(": what")[0] for sentence in without_effect(cfg, KNOWN)] == told


def test_what_a_run_reads_is_no_variable(base: Path) -> None:
    cfg = Config.fromfile("base.py")
    apply_overrides(cfg, ["optimizer.lr=0.2"])
    assert without_effect(cfg, {*KNOWN, "optimizer"}) == []


def test_a_pure_config_rebinds_what_its_base_has_read(base: Path) -> None:
    (base / "pure.py").write_text("with read_base():\n    from .base import *\nsize = (1, 1)\n")
    assert without_effect(Config.fromfile("pure.py"), KNOWN) == [
        f"pure.py:3: 'size' has no effect: what read 'size' {KEEPS}; --set model.size=... reaches it"
    ]


@pytest.mark.parametrize(
    ("lines", "lr"),
    [
        ("optimizer.update(lr=0.2)", 0.1),
        ("optimizer['lr'] = 0.3\noptimizer['lr'] = 0.2", 0.1),
        ("optimizer.update(lr=0.2)\noptim_wrapper.update(optimizer=optimizer)", None),
        ("optimizer.update(lr=0.2)\noptim_wrapper = dict(type='OptimWrapper', optimizer=optimizer)", None),
        ("optimizer.update(lr=0.2)\noptim_wrapper.optimizer = dict(type='Adam', lr=0.4)", None),
        ("optimizer.update(weight_decay=0.2)", None),
        ("optim_wrapper.optimizer.update(lr=optimizer.lr * 2)", None),
    ],
)
def test_a_pure_config_changes_a_variable_that_its_base_has_read(base: Path, lines: str, lr: float | None) -> None:
    (base / "pure.py").write_text(f"with read_base():\n    from .base import *\n{lines}\n")
    cfg = Config.fromfile("pure.py")
    told = without_effect(cfg, KNOWN)
    if lr is None:
        assert told == []
    else:
        assert cfg.optim_wrapper.optimizer.lr == lr
        assert [each.partition(": ")[2].partition(":")[0] for each in told] == ["'optimizer.lr' has no effect"]


@pytest.mark.parametrize(
    ("lines", "override", "told"),
    [
        ("classes = 5\nmodel = dict(head=dict(classes=classes, size=5))", "classes=7", "--set model.head.classes=..."),
        ("few = 5\nmodel = dict(head=dict(a=few, b=[few]))", "few=7", "held by model.head.a, model.head.b[0], which"),
        ("on = True\nmodel = dict(a=on, b=True)", "on=False", KEEPS),
    ],
)
def test_an_override_of_a_variable_names_the_keys_that_hold_its_value(
    tmp_path: Path, lines: str, override: str, told: str
) -> None:
    (tmp_path / "a.py").write_text(lines)
    cfg = Config.fromfile(tmp_path / "a.py")
    apply_overrides(cfg, [override])
    (sentence,) = without_effect(cfg, KNOWN)
    assert told in sentence
    assert unread_overrides(cfg, KNOWN) == []


@pytest.mark.parametrize("name", ["a.py", "a.json"])
def test_an_override_of_what_nothing_reads(tmp_path: Path, name: str) -> None:
    text = {"a.py": "classes = 5\nmodel = dict(head=5)", "a.json": '{"classes": 5, "model": {"head": 5}}'}[name]
    (tmp_path / name).write_text(text)
    cfg = Config.fromfile(tmp_path / name)
    assert unread_overrides(cfg, KNOWN) == []
    apply_overrides(cfg, ["classes=7", "+more=1"])
    assert unread_overrides(cfg, KNOWN) == [
        "--set: 'classes' has no effect, unless code of your own reads it: no part of a run does"
    ]
