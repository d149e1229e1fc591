"""A wrong value at any leaf of a config is refused in our words, or is no mistake."""

import random
from pathlib import Path

import pytest

from footplate.config import Config
from footplate.tasks.recipes import find_config, recipes
from tests.config.leaves import WRONG, changed, failure, leaves
from tests.support import TINY

NAMES = sorted(Path(each.path).stem for each in recipes())


def failures(cfg: Config, tries: int) -> list[str]:
    cfg["work_dir"] = "work"
    cases = [(path, kind) for path in leaves(cfg) for kind in WRONG]
    cases = random.Random(0).sample(cases, min(tries, len(cases)))
    found = [(path, kind, failure(changed(cfg, path, WRONG[kind]))) for path, kind in cases]
    return [f"{path} as {kind}: {told}" for path, kind, told in found if told is not None]


def test_a_small_config(tmp_path: Path) -> None:
    (tmp_path / "tiny.py").write_text(TINY)
    assert failures(Config.fromfile(tmp_path / "tiny.py"), 150) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe(name: str) -> None:
    assert failures(Config.fromfile(find_config(name)), 20) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_many_leaves_of_a_recipe(name: str) -> None:
    assert failures(Config.fromfile(find_config(name)), 400) == []


@pytest.mark.parametrize(
    ("name", "path", "kind"),
    [
        ("fashion-det", ("optim_wrapper", "optimizer", "weight_decay"), "string"),
        ("fashion-det", ("optim_wrapper", "optimizer", "weight_decay"), "filled"),
        ("fashion-det", ("param_scheduler", 0, "begin"), "none"),
        ("fashion-mae", ("param_scheduler", 0, "end"), "string"),
        ("fashion-mae", ("param_scheduler", 1, "end"), "numbers"),
        ("fashion-det", ("train_dataloader",), "numbers"),
    ],
)
def test_what_was_found(name: str, path: tuple[str | int, ...], kind: str) -> None:
    cfg = Config.fromfile(find_config(name))
    cfg["work_dir"] = "work"
    assert failure(changed(cfg, path, WRONG[kind])) is None
