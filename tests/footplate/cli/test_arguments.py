import argparse
from pathlib import Path

import pytest

from footplate.cli.arguments import Parser, add_config
from footplate.cli.config_arguments import read_config, read_run_config
from footplate.cli.main import build_parser
from tests.footplate.cli.conftest import Command


def parse(*arguments: str) -> argparse.Namespace:
    parser = Parser()
    add_config(parser)
    return parser.parse_args(arguments)


def test_overrides_may_share_a_flag_or_repeat_it() -> None:
    found = parse("a.py", "--set", "a=1", "b=2", "--cfg-options", "c=3", "--set", "d=4")
    assert (found.config, found.set, found.cfg_options) == ("a.py", ["a=1", "b=2", "d=4"], ["c=3"])


@pytest.mark.parametrize(
    ("words", "name", "expected"),
    [
        ("predict a.pth ~/b.png --out=~/c", "out", "{}/c"),
        ("predict a.pth ~/b.png", "paths", ["{}/b.png"]),
        ("export a.pth --to onnx -o=~/c.onnx", "output", "{}/c.onnx"),
        ("report ~/run s3://b/~c", "runs", ["{}/run", "s3://b/~c"]),
    ],
)
def test_paths_may_start_with_a_tilde(words: str, name: str, expected: str | list[str]) -> None:
    found = getattr(build_parser().parse_args(words.split()), name)
    home = str(Path.home())
    assert found == (expected.format(home) if isinstance(expected, str) else [each.format(home) for each in expected])


def test_strict_overrides_come_last(tiny: Path) -> None:
    cfg = read_config(parse("tiny.py", "--set", "train_cfg.max_iters=3", "--cfg-options", "train_cfg.max_iters=5"))
    assert cfg.train_cfg.max_iters == 3


MINE = """\
from footplate import HOOKS, Hook

@HOOKS.register_module()
class Mine(Hook):
    def __init__(self, pace=1):
        self.pace = pace
"""


def test_arguments_of_a_users_class_need_no_plus(tiny: Path, footplate: Command) -> None:
    name = f"mine_{tiny.parent.name}"  # a module that no other test has imported
    Path(f"{name}.py").write_text(MINE)
    tiny.write_text(
        tiny.read_text().replace('"Witness"', '"Mine"').replace('"tests.support"', f'"tests.support", "{name}"')
    )
    assert read_config(parse("tiny.py", "--set", "custom_hooks.0.pace=3")).custom_hooks[0].pace == 3
    code, _, errors = footplate("check", "tiny.py", "--set", "custom_hooks.0.pase=3")
    assert (code, "did you mean 'custom_hooks.0.pace'?" in errors) == (2, True)


@pytest.mark.parametrize(
    ("written", "given", "chosen"),
    [(None, None, "work_dirs/tiny"), ("here", None, "here"), ("here", "there", "there"), (None, "there", "there")],
)
def test_the_work_dir(tiny: Path, written: str | None, given: str | None, chosen: str) -> None:
    if written is not None:
        tiny.write_text(f"{tiny.read_text()}\nwork_dir = {written!r}\n")
    arguments = parse("tiny.py")
    arguments.work_dir = given
    assert read_run_config(arguments).work_dir == chosen


HELP = "Run `footplate train --help` for usage.\n"


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--lr", "1e-3"], "; set it in the config: --set optim_wrapper.optimizer.lr=1e-3"),
        (["--work_dir", "x"], "; did you mean --work-dir?"),
        (["--auto-resume"], "; use --resume"),
        (["train_cfg.max_iters=4"], "; to set a config key, write --set train_cfg.max_iters=4"),
    ],
)
def test_unknown_option_has_a_hint(tiny: Path, footplate: Command, words: list[str], hint: str) -> None:
    told = " ".join(word for word in words if word != "--amp")
    assert footplate("train", "tiny.py", *words) == (
        2,
        "",
        f"error: unrecognized arguments: {told}{hint}\n{HELP}",
    )
    assert [each.name for each in tiny.parent.iterdir()] == ["tiny.py"]
