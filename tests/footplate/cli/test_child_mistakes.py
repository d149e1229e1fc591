"""Mistakes in a config that inherits a recipe: the error shows the key, and its line or `--set` option."""

import sys
from pathlib import Path

import pytest

from tests.footplate.cli.conftest import FIRST_GENERATION, Command

_BASES = {".py": '_base_ = "{}.py"\n', ".yaml": "_base_: {}.py\n"}
# `make rounding` replaces kernels with Python functions, which tracebacks then contain.
_without_rounding = pytest.mark.skipif("rounding by shape" in sys.modules, reason="the kernels are in the traceback")

pytestmark = pytest.mark.usefixtures("current_folder")


def write_child(recipe: str, lines: str, suffix: str = ".py") -> str:
    base = recipe if "/" in recipe else f"footplate::{recipe}"
    Path(f"child{suffix}").write_text(_BASES[suffix].format(base) + lines)
    return f"child{suffix}"


@_without_rounding
@pytest.mark.parametrize(
    ("lines", "given", "place", "change"),
    [
        ("model = dict(head=dict(in_channels=100))", [], "child.py:2", "child.py:2"),
        ("", ["--set", "model.head.in_channels=100"], "footplate::fashion-cls.py:34", "--set"),
    ],
)
def test_error_about_sizes_names_the_module_and_the_changed_keys(
    footplate: Command, lines: str, given: list[str], place: str, change: str
) -> None:
    code, _, errors = footplate("train", write_child("fashion-cls", lines), "--work-dir", "work", *given)
    told = errors.splitlines()[-6:]
    assert code == 2
    assert told[0].startswith("error: ")
    assert "RuntimeError: " in told[0]
    assert told[1:] == [
        f"  at {place}, key model.head",
        "  head.fc is Linear(in_features=100, out_features=10, bias=True); its input is (100, 128)",
        f"  changed from the base: model.head.in_channels ({change})",
        "  Check that shapes and dtypes match, for example the numbers of channels and classes",
        "  --debug shows the traceback",
    ]


@pytest.mark.parametrize("recipe", ["fashion-cls", "fashion-seg"])
def test_data_preprocessor_without_type_is_that_of_the_task(footplate: Command, recipe: str) -> None:
    lines = "model = dict(data_preprocessor=dict(_delete_=True, mean=[72.0], std=[90.0], num_classes=10))"
    lines = lines if recipe == "fashion-cls" else lines.replace(", num_classes=10", "")
    code, told, errors = footplate("check", write_child(recipe, lines), "--work-dir", "work", "--no-run")
    assert (code, "no problems found in the config" in told) == (0, True), errors
    lines = lines.replace("std=", "stt=")
    _, _, errors = footplate("check", write_child(recipe, lines), "--work-dir", "work", "--no-run")
    assert "at child.py:2, key model.data_preprocessor.stt" in errors


@pytest.mark.parametrize(
    ("recipe", "suffix", "lines", "place"),
    [
        (
            "fashion-cls",
            ".py",
            "\nval_evaluator = [dict(type='Accuracy',\n    topk=(1, 30))]",
            "child.py:4, key val_evaluator[0].topk",
        ),
        ("fashion-seg", ".yaml", 'model:\n  num_classes: "11"', "child.yaml:3, key model.num_classes"),
        (
            str(FIRST_GENERATION.with_suffix("")),
            ".py",
            "\nlr_config = dict(warmup='linaer')",
            "child.py:3, key lr_config.warmup",
        ),
    ],
)
def test_location_is_that_of_the_value(footplate: Command, recipe: str, suffix: str, lines: str, place: str) -> None:
    code, _, errors = footplate("check", write_child(recipe, lines, suffix), "--work-dir", "work")
    told = errors.splitlines()
    assert (code, f"  at {place}" in told, len(told) <= 5) == (2, True, True), errors
