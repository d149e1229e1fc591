import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from footplate.config import Config, apply_overrides, check_top_level_keys, find_unused_changes
from footplate.config.unused_keys import misspelled_key
from footplate.errors import ConfigKeyError, Origin

NAMES = """
model data_preprocessor train_dataloader val_dataloader test_dataloader train_cfg val_cfg test_cfg optim_wrapper
param_scheduler val_evaluator test_evaluator default_hooks custom_hooks load_from resume env_cfg log_processor
log_level visualizer vis_backends default_scope randomness experiment_name work_dir custom_imports data optimizer
optimizer_config lr_config runner checkpoint_config log_config evaluation workflow resume_from fp16 max_iters
max_epochs total_epochs dist_params
"""
KNOWN = NAMES.split()


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("train_dataloder", "train_dataloader"),
        ("trian_dataloader", "train_dataloader"),
        ("traindataloader", "train_dataloader"),
        ("default_hook", "default_hooks"),
        ("Model", "model"),
        ("modle", "model"),
        ("workdir", "work_dir"),
        ("models", None),
        ("eval_dataloader", None),
        ("gallery_dataloader", None),
        ("conv_cfg", None),
        ("hooks", None),
    ],
)
def test_typos_are_distinguished_from_other_keys(key: str, near: str | None) -> None:
    assert misspelled_key(key, KNOWN) == near


def test_misspelled_key_is_refused_with_its_line(write: Callable[[Mapping[str, str]], Path]) -> None:
    main = write({"main.py": "model = dict()\ntrain_dataloder = dict(batch_size=2)\n"})
    with pytest.raises(ConfigKeyError, match="unknown key 'train_dataloder'") as caught:
        check_top_level_keys(Config.fromfile(main), KNOWN)
    assert caught.value.origin == Origin(str(main), 2)
    assert caught.value.suggestion == "train_dataloader"


@pytest.mark.parametrize(("value", "refused"), [("None", False), ("False", False), ("True", True), ("0", True)])
def test_key_with_none_or_false_is_not_reported(
    write: Callable[[Mapping[str, str]], Path], value: str, refused: bool
) -> None:
    cfg = Config.fromfile(write({"main.py": f"optimzer = {value}\n"}))
    with pytest.raises(ConfigKeyError) if refused else contextlib.nullcontext():
        check_top_level_keys(cfg, KNOWN)


BASE = """
size = (64, 64)
names = ['a', 'b']
optimizer = dict(type='SGD', lr=0.1)
unread = 3
optim_wrapper = dict(type='OptimWrapper', optimizer=optimizer)
model = dict(type='Model', size=size, classes=len(names))
"""
READ_BY_RUN = {"model", "optim_wrapper"}
READ = "because other keys already use the previous value"


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
            [f"child.py:2: 'optimizer.lr' has no effect, {READ}; set optim_wrapper.optimizer.lr instead"],
        ),
        (
            "size = (32, 32)",
            [f"child.py:2: 'size' has no effect, {READ}; set model.size instead"],
        ),
        ("names = ['c']", [f"child.py:2: 'names' has no effect, {READ}"]),
        ("size = (32, 32)\nmodel = dict(size=size)", []),
        ("optimizer = dict(lr=0.1)", []),
        ("optim_wrapper = dict(optimizer=dict(lr=0.2))", []),
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
        ("few = 5\nmodel = dict(head=dict(a=few, b=[few]))", "few=7", "; set model.head.a, model.head.b[0] instead"),
        ("on = True\nmodel = dict(a=on, b=True)", "on=False", READ),
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
    assert told in change.problem


@pytest.mark.parametrize("name", ["a.py", "a.json"])
def test_override_of_an_unread_variable_is_reported(tmp_path: Path, name: str) -> None:
    text = {"a.py": "classes = 5\nmodel = dict(head=5)", "a.json": '{"classes": 5, "model": {"head": 5}}'}[name]
    (tmp_path / name).write_text(text)
    cfg = Config.fromfile(tmp_path / name)
    assert find_unused_changes(cfg, READ_BY_RUN) == []
    apply_overrides(cfg, ["classes=7", "+more=1"])
    assert list(map(str, find_unused_changes(cfg, READ_BY_RUN))) == [
        "--set: 'classes' has no effect unless your own code reads it, because neither the config nor a run does"
    ]
