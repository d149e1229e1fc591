import argparse
from pathlib import Path

import pytest

from footplate.cli.arguments import Parser, add_config
from footplate.cli.config_arguments import read_config
from tests.footplate.cli.conftest import Command


def parse(*arguments: str) -> argparse.Namespace:
    parser = Parser()
    add_config(parser)
    return parser.parse_args(arguments)


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


HELP = "Run `footplate train --help` for usage.\n"


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--lr", "1e-3"], "; to set a config key, write --set KEY=VALUE"),
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
