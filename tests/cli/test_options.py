import argparse
from pathlib import Path

import pytest

from footplate import Config
from footplate.cli.options import add_config, choose_work_dir, read_config


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_config(parser)
    return parser.parse_args(arguments)


def test_pairs_come_together_or_one_by_one() -> None:
    found = parse("a.py", "--set", "a=1", "b=2", "--cfg-options", "c=3", "--set", "d=4")
    assert (found.config, found.set, found.cfg_options) == ("a.py", ["a=1", "b=2", "d=4"], ["c=3"])


def test_strict_overrides_come_last(tiny: Path) -> None:
    cfg = read_config(parse("tiny.py", "--set", "train_cfg.max_iters=3", "--cfg-options", "train_cfg.max_iters=5"))
    assert cfg.train_cfg.max_iters == 3


@pytest.mark.parametrize(
    ("written", "given", "chosen"),
    [(None, None, "work_dirs/tiny"), ("here", None, "here"), ("here", "there", "there"), (None, "there", "there")],
)
def test_the_work_dir(tiny: Path, written: str | None, given: str | None, chosen: str) -> None:
    cfg = Config.fromfile(str(tiny))
    if written is not None:
        cfg["work_dir"] = written
    choose_work_dir(cfg, given)
    assert cfg.work_dir == chosen
