import argparse

from footplate_openmmlab.mmengine.dict_action import DictAction


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--cfg-options", nargs="+", action=DictAction)
    return parser


def test_pairs_are_collected_over_several_flags() -> None:
    arguments = ["--cfg-options", "a=1", "b.c=x=y", "--cfg-options", "d=[1,(2,3)]", "a=2"]
    assert parser().parse_args(arguments).cfg_options == {"a": 2, "b.c": "x=y", "d": [1, (2, 3)]}
    assert parser().parse_args([]).cfg_options is None
