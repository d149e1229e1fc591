from pathlib import Path

import pytest

from footplate.migration.rewriting.plan import OLD_KEYS, FilePlan, ConfigTree

FILES = {
    "schedule.py": "optimizer = dict(type='SGD', lr=0.1)\nrunner = dict(max_iters=9)\n",
    "data.py": "data = dict(samples_per_gpu=2, train=dict(type='A'), extract=dict(type='B'))\n",
    "model.py": "model = dict(type='N')\n",
    "run.py": "_base_ = ['schedule.py', 'data.py', 'model.py']\nseed = 1\n",
    "second.py": "optim_wrapper = dict()\n",
    "bad.py": "a = (\n",
}


@pytest.fixture
def tree(tmp_path: Path) -> ConfigTree:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return ConfigTree([tmp_path / name for name in FILES])


def plan(tree: ConfigTree, name: str) -> FilePlan:
    found = tree.plan(next(path for path in tree.members if path.name == name))
    assert found is not None
    return found


def test_bases_come_before_those_that_inherit(tree: ConfigTree) -> None:
    names = [path.name for path in tree.members]
    assert names.index("run.py") > max(names.index(each) for each in ("schedule.py", "data.py", "model.py"))
    assert [path.name for path in tree.broken] == ["bad.py"]


def test_each_part_speaks_of_what_it_hosts(tree: ConfigTree) -> None:
    assert set(plan(tree, "schedule.py").keys) == {"optim_wrapper", "train_cfg", "model_adapter"}
    assert {"train_dataloader", "extract_dataset"} <= set(plan(tree, "data.py").keys)
    assert not plan(tree, "data.py").is_whole


def test_a_part_knows_what_runs_say_beside_it(tree: ConfigTree) -> None:
    # Whether the loader is endless depends on the runner, which stands in another file.
    assert plan(tree, "data.py").wanted["train_dataloader"]["sampler"]["type"] == "InfiniteSampler"


def test_a_run_is_wanted_as_a_whole(tree: ConfigTree) -> None:
    found = plan(tree, "run.py")
    assert found.is_whole
    assert found.wanted["randomness"] == {"seed": 1}
    assert {"seed", "optimizer", "runner", "data"} <= found.taken


def test_the_second_generation_needs_no_plan(tree: ConfigTree) -> None:
    paths = {path.name: path for path in tree.members}
    assert tree.plan(paths["second.py"]) is None
    assert tree.plan(paths["model.py"]) is None


def test_a_section_is_withheld_from_a_part_and_not_from_a_run(tree: ConfigTree) -> None:
    paths = {path.name: path for path in tree.members}
    assert tree.withhold(paths["schedule.py"], "train_cfg")
    assert "train_cfg" not in plan(tree, "schedule.py").keys
    assert "train_cfg" in plan(tree, "run.py").keys
    assert not tree.withhold(paths["schedule.py"], "train_cfg")


def test_model_settings_are_words_of_both_generations() -> None:
    assert {"optimizer", "data", "runner"} <= OLD_KEYS
    assert not OLD_KEYS & {"model", "train_cfg", "test_cfg", "load_from"}
