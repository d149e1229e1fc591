import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from footplate.config import Config, ConfigDict
from footplate.first_generation.rewriting.plan import (
    OLD_KEYS,
    ConfigTree,
    FilePlan,
    config_difference,
    differing_keys,
    is_identical,
)

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
    found = tree.plan(next(path for path in tree.files if path.name == name))
    assert found is not None
    return found


def test_bases_precede_files_that_inherit_from_them(tree: ConfigTree) -> None:
    names = [path.name for path in tree.files]
    assert names.index("run.py") > max(names.index(each) for each in ("schedule.py", "data.py", "model.py"))
    assert [path.name for path in tree.errors] == ["bad.py"]


def test_base_file_writes_sections_of_its_own_keys(tree: ConfigTree) -> None:
    assert set(plan(tree, "schedule.py").keys) == {"optim_wrapper", "train_cfg", "model_adapter"}
    assert {"train_dataloader", "extract_dataset"} <= set(plan(tree, "data.py").keys)
    assert not plan(tree, "data.py").is_whole


def test_base_file_is_translated_in_the_context_of_its_runs(tree: ConfigTree) -> None:
    # Whether the loader is infinite depends on the runner, which is set in another file.
    assert plan(tree, "data.py").expected["train_dataloader"]["sampler"]["type"] == "InfiniteSampler"


def test_run_is_planned_as_a_whole(tree: ConfigTree) -> None:
    found = plan(tree, "run.py")
    assert found.is_whole
    assert found.expected["randomness"] == {"seed": 1}
    assert {"seed", "optimizer", "runner", "data"} <= found.removed


def test_files_without_first_generation_keys_need_no_plan(tree: ConfigTree) -> None:
    paths = {path.name: path for path in tree.files}
    assert tree.plan(paths["second.py"]) is None
    assert tree.plan(paths["model.py"]) is None


def test_withhold_affects_base_files_only(tree: ConfigTree) -> None:
    paths = {path.name: path for path in tree.files}
    assert tree.withhold(paths["schedule.py"], "train_cfg")
    assert "train_cfg" not in plan(tree, "schedule.py").keys
    assert "train_cfg" in plan(tree, "run.py").keys
    assert not tree.withhold(paths["schedule.py"], "train_cfg")


def test_old_keys_exclude_keys_of_both_generations() -> None:
    assert {"optimizer", "data", "runner"} <= OLD_KEYS
    assert not OLD_KEYS & {"model", "train_cfg", "test_cfg", "load_from"}


@pytest.mark.parametrize(
    ("first", "second", "equal"),
    [
        (1, 1, True),
        (1, True, False),
        (1, 1.0, False),
        ((1,), [1], False),
        ([1, (2,)], [1, (2,)], True),
        ({"a": 1}, {"a": 1}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        (float("nan"), float("nan"), True),
        (None, None, True),
    ],
)
def test_is_identical_compares_types(first: Any, second: Any, equal: bool) -> None:
    assert is_identical(first, second) is equal


def test_difference_is_minimal() -> None:
    inherited = {"a": {"b": 1, "c": {"d": 2}}, "gone": 1, "kept": [1]}
    expected = {"a": {"b": 1, "c": {"d": 3}}, "kept": [1], "new": (1,)}
    assert config_difference(inherited, expected, ["a", "gone", "kept", "new"]) == {
        "a": {"c": {"d": 3}},
        "gone": None,
        "new": (1,),
    }


def test_removed_keys_are_written_as_delete() -> None:
    assert config_difference({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}, ["a"]) == {"a": {"_delete_": True, "b": 1}}


def test_none_is_treated_as_an_absent_key() -> None:
    assert differing_keys({"a": None, "b": 1}, {"b": 2, "c": None}) == ["b"]


VALUES = st.recursive(
    st.one_of(st.integers(0, 3), st.booleans(), st.text("ab", max_size=1), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.sampled_from("abc"), inner, max_size=3)),
    max_leaves=8,
)
CONFIGS = st.dictionaries(st.sampled_from(["x", "y", "z"]), VALUES, max_size=3)


@given(CONFIGS, CONFIGS)
def test_difference_on_top_of_bases_resolves_to_expected(inherited: dict[str, Any], expected: dict[str, Any]) -> None:
    difference = config_difference(inherited, expected, ["x", "y", "z"])
    merged = ConfigDict(copy.deepcopy(inherited))
    merged.merge(difference)
    assert not differing_keys(Config(merged).to_dict(), expected)
