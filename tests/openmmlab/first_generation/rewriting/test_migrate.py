from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from footplate import Config
from footplate.openmmlab.first_generation.rewriting.migrate import (
    MigratedFile,
    migrate_file,
    migrate_tree,
    write_files,
)
from footplate.openmmlab.first_generation.rewriting.plan import differing_keys
from footplate.openmmlab.first_generation.translation import Kind, translate

FILES = {
    "_base_/model.py": "# the network\nmodel = dict(type='Net', depth=18)\n",
    "_base_/data.py": """\
# data
root = 'data/'
train_pipeline = [dict(type='Load')]  # the usual
data = dict(
    samples_per_gpu=2,  # images per process
    workers_per_gpu=1,
    # the training data
    train=dict(type='A', root=root, pipeline=train_pipeline),
    val=dict(type='A', root=root,
             pipeline=[]))
""",
    "_base_/schedule.py": """\
# optimizer
optimizer = dict(type='SGD', lr=0.01)  # tuned
optimizer_config = dict(grad_clip=None)
# learning policy
lr_config = dict(policy='step', step=[8, 11])
runner = dict(type='EpochBasedRunner', max_epochs=12)
""",
    "_base_/runtime.py": """\
checkpoint_config = dict(interval=1)
# yapf:disable
log_config = dict(interval=50, hooks=[
    dict(type='TextLoggerHook'),
    # dict(type='TensorboardLoggerHook')
])
dist_params = dict(backend='nccl')
load_from = None
""",
    "run.py": """\
_base_ = [
    './_base_/model.py', './_base_/data.py',
    './_base_/schedule.py', './_base_/runtime.py'
]
max_epochs = 24  # twice as long
model = dict(depth=50)
runner = dict(max_epochs=max_epochs)
evaluation = dict(interval=2, metric='bbox')
""",
    "child.py": "_base_ = 'run.py'\noptimizer = dict(lr=0.02)  # more\ndata = dict(samples_per_gpu=4)\n",
    "deleting.py": """\
_base_ = 'run.py'
optimizer = dict(_delete_=True, type='AdamW', lr=1e-4)
custom_hooks = [dict(type='NumClassCheckHook')]
""",
    "other.py": "optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))  # second generation\n",
}


def tree(folder: Path, files: dict[str, str] = FILES) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def write(found: list[MigratedFile]) -> list[MigratedFile]:
    write_files(found, replace=False)
    return found


def check_equal(old: Path, new: Path) -> None:
    expected: Any = translate(Config.fromfile(old)).to_dict()
    assert not differing_keys(Config.fromfile(new).to_dict(), expected)


def test_migrated_tree_resolves_to_the_translation(tmp_path: Path) -> None:
    folder = tree(tmp_path / "old")
    found = write(migrate_tree(folder, tmp_path / "new"))
    assert {str(each.target.relative_to(tmp_path / "new")) for each in found} == set(FILES)
    for name in ("run.py", "child.py", "deleting.py", "other.py"):
        check_equal(folder / name, tmp_path / "new" / name)
    unchanged = {each.source.name for each in found if not each.changed}
    assert unchanged == {"model.py", "other.py"}
    assert (tmp_path / "new/other.py").read_text() == FILES["other.py"]


def test_comments_and_variables_are_kept(tmp_path: Path) -> None:
    write(migrate_tree(tree(tmp_path / "old"), tmp_path / "new"))
    for name, text in FILES.items():
        new = (tmp_path / "new" / name).read_text()
        for line in text.splitlines():
            if "#" in line:
                assert line[line.index("#") :] in new, (name, line)
    assert "train_pipeline = [dict(type='Load')]  # the usual" in (tmp_path / "new/_base_/data.py").read_text()
    assert "pipeline=train_pipeline" in (tmp_path / "new/_base_/data.py").read_text()
    assert "max_epochs=max_epochs" in (tmp_path / "new/run.py").read_text()


def test_each_base_file_writes_its_own_sections(tmp_path: Path) -> None:
    write(migrate_tree(tree(tmp_path / "old"), tmp_path / "new"))

    def keys(name: str) -> set[str]:
        return set(Config.fromfile(tmp_path / "new/_base_" / name))

    assert keys("schedule.py") == {"optim_wrapper", "param_scheduler", "train_cfg", "val_cfg"}
    assert keys("data.py") == {"root", "train_pipeline", "train_dataloader", "val_dataloader", "val_evaluator"}
    assert keys("runtime.py") == {"default_hooks", "log_processor", "env_cfg", "model_adapter", "load_from"}
    child = (tmp_path / "new/child.py").read_text()
    assert "optim_wrapper = dict(optimizer=dict(lr=0.02))  # more" in child
    assert "train_dataloader = dict(batch_size=4)" in child
    assert len(child.splitlines()) == 3


def test_migrate_file_includes_its_bases(tmp_path: Path) -> None:
    folder = tree(tmp_path / "old")
    found = write(migrate_file(folder / "run.py", tmp_path / "new/migrated.py"))
    assert found[0].target == tmp_path / "new/migrated.py"
    assert (tmp_path / "new/_base_/schedule.py").exists()
    assert "'./_base_/schedule.py'" in str(found[0].text)
    check_equal(folder / "run.py", tmp_path / "new/migrated.py")


def test_default_targets_do_not_overwrite_old_files(tmp_path: Path) -> None:
    folder = tree(tmp_path / "old")
    found = write(migrate_file(folder / "child.py"))
    assert found[0].target == folder / "child_migrated.py"
    assert {each.target.name for each in found[1:]} == {
        "run_migrated.py",
        "data_migrated.py",
        "schedule_migrated.py",
        "runtime_migrated.py",
    }
    assert "'./_base_/model.py'" in (folder / "run_migrated.py").read_text()
    assert {name: (folder / name).read_text() for name in FILES} == FILES
    check_equal(folder / "child.py", folder / "child_migrated.py")
    again = migrate_file(folder / "child.py")
    assert [each.target for each in again] == [each.target for each in found]


def test_variables_of_a_base_with_a_new_name_are_read(tmp_path: Path) -> None:
    base = "every = 3\nrunner = dict(type='EpochBasedRunner', max_epochs=6)\ncheckpoint_config = dict(interval=2)\n"
    run = "_base_ = ['base.py']  # shared\nmodel = dict(type='Net')\nlog_config = dict(interval={{_base_.every}})\n"
    folder = tree(tmp_path, {"base.py": base, "run.py": run})
    found = write(migrate_file(folder / "run.py"))
    assert "_base_ = ['./base_migrated.py']  # shared\n" in str(found[0].text)
    assert "window_size={{_base_.every}}" in str(found[0].text)
    check_equal(folder / "run.py", folder / "run_migrated.py")


def test_notes_belong_to_the_file_that_writes_the_key(tmp_path: Path) -> None:
    found = migrate_tree(tree(tmp_path / "old"), tmp_path / "new")
    notes = {each.source.name: [(note.key, note.origin and note.origin.line) for note in each.notes] for each in found}
    assert notes["schedule.py"] == [("optimizer", 2), ("optimizer_config", 3), ("lr_config", 5), ("runner", 6)]
    assert notes["child.py"] == [("optimizer", 2), ("data", 3)]
    assert notes["model.py"] == []


VARIABLES = "total_epochs = 3\nnote = f'{total_epochs} epochs'\nlr_config = dict(policy='fixed')\n"
CHANGES = "data = dict(samples_per_gpu=1, train=dict(type='A'))\ndata['train']['b'] = 1\ndata.update(samples_per_gpu=2)"
ODD: dict[str, str] = {
    "changed after the assignment": CHANGES,
    "read by another line": VARIABLES,
    "braces": "optimizer = {'type': 'SGD', 'lr': 0.1, 'paramwise_cfg': {'custom_keys': {'a.b': {'lr_mult': 0.5}}}}",
    "made in a loop": "log_config = dict(interval=1, hooks=[dict(type=f'{name}LoggerHook') for name in ('Text',)])",
    "several targets": "seed, device = 3, 'cpu'",
    "multi-line string": 'lr_config = dict(policy="fixed")\nfp16 = dict(loss_scale=8.)\nnote = """\noptimizer = 1\n"""',
    "model settings": "shift = 3\ntrain_cfg = dict(rpn=dict(a=shift))\ntest_cfg = dict(rpn=dict(b=1))",
}


@pytest.mark.parametrize("text", ODD.values(), ids=ODD.keys())
def test_unusual_notations_resolve_to_the_translation(tmp_path: Path, text: str) -> None:
    run = "model = dict(type='Net')\nrunner = dict(type='EpochBasedRunner', max_epochs=1)\n"
    if "total_epochs" in text:
        run = "model = dict(type='Net')\n"
    path = tmp_path / "odd.py"
    path.write_text(f"{run}{text}\n")
    found = write(migrate_file(path))
    check_equal(path, found[0].target)
    assert not [note for note in found[0].notes if note.kind is Kind.PERSON]


def test_unreadable_file_does_not_stop_the_migration_of_a_tree(tmp_path: Path) -> None:
    files = {**FILES, "bad.py": "a = (\n", "mixed.py": "optim_wrapper = dict()\nlr_config = dict()\n"}
    found = {each.source.name: each for each in migrate_tree(tree(tmp_path / "old", files), tmp_path / "new")}
    assert [note.kind for note in found["bad.py"].notes] == [Kind.PERSON]
    assert "both generations" in found["mixed.py"].notes[0].text
    assert not found["mixed.py"].changed
    assert found["run.py"].changed


KEPT: dict[str, tuple[str, list[str]]] = {
    "item assigned from another item": (
        "data = dict(val=dict(type='B'))\ndata['test'] = data['val']\n",
        ["dataset=dict(type='B')"],
    ),
    "list of datasets": (
        "one, two = dict(type='A'), dict(type='B')\ndata = dict(train=[one, two])\n",
        ["datasets=[one, two]"],
    ),
    "variable assigned after the runner": (
        "runner = dict(max_epochs=9)\nevery = 3\nevaluation = dict(interval=every)\n",
        ["every = 3\ntrain_cfg = dict(max_epochs=9, val_interval=every)"],
    ),
    "policy setting in a variable": (
        "low = 1e-5\nlr_config = dict(_delete_=True, policy='poly', min_lr=low, power=0.9)\n",
        ["eta_min=low"],
    ),
}


@pytest.mark.parametrize(("text", "lines"), KEPT.values(), ids=KEPT.keys())
def test_file_keeps_its_own_settings_and_expressions(tmp_path: Path, text: str, lines: list[str]) -> None:
    folder = tree(tmp_path / "old", {**FILES, "own.py": f"_base_ = 'run.py'\n{text}"})
    found = {each.source.name: each for each in write(migrate_tree(folder, tmp_path / "new"))}
    new = str(found["own.py"].text)
    assert not [line for line in lines if line not in new], new
    assert not [note for note in found["own.py"].notes if "does not resolve" in note.text]
    check_equal(folder / "own.py", tmp_path / "new/own.py")


def migrated(folder: Path, name: str, text: str | None = "b = 1\n", old: bytes = b"a = 1\n") -> MigratedFile:
    source = folder / f"old_{Path(name).name}"
    source.write_bytes(old)
    return MigratedFile(source, folder / name, text, True, ())


def test_full_disk_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [migrated(tmp_path, "new/a.py"), migrated(tmp_path, "new/sub/b.py")]
    with monkeypatch.context() as patched:
        patched.setattr("os.replace", Mock(side_effect=OSError(28, "No space left on device", "b.py")))
        with pytest.raises(OSError, match="No space left"):
            write_files(found, replace=False)
    assert not [each for each in (tmp_path / "new").rglob("*") if each.is_file()]


def test_bases_outside_the_users_folder_are_merged_into_the_new_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, user = tmp_path / "user/venv/site-packages/mmseg/.mim/configs/_base_", tmp_path / "user/exp"
    for folder in (package, user, tmp_path / "shared"):
        folder.mkdir(parents=True)
    (package / "model.py").write_text(FILES["_base_/model.py"])
    (package / "schedule.py").write_text(FILES["_base_/schedule.py"])
    (tmp_path / "shared/runtime.py").write_text(FILES["_base_/runtime.py"])
    (user / "own.py").write_text(FILES["_base_/data.py"])
    bases = [str(package / "model.py"), str(package / "schedule.py"), "../../shared/runtime.py", "./own.py"]
    (user / "run.py").write_text(f"_base_ = {bases}\nmodel = dict(depth=50)\n")
    monkeypatch.chdir(tmp_path / "user")
    found = migrate_file(user / "run.py")
    assert sorted(each.target.name for each in found) == ["own_migrated.py", "run_migrated.py"]
    assert {each.target.parent for each in found} == {user}
    expected = translate(Config.fromfile(user / "run.py")).to_dict()
    write_files(found, replace=False)
    assert differing_keys(Config.fromfile(user / "run_migrated.py").to_dict(), expected) == []
