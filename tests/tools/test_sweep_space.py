from pathlib import Path

import pytest

from footplate.config import Config
from footplate.errors import ArgumentError, OverrideError
from footplate.tools.sweep_space import Parameter, overrides_of, parse_parameter, with_values
from tests.support import settings


@pytest.mark.parametrize(
    ("text", "parameter"),
    [
        ("a.lr=log:1e-4..1e-2", Parameter("a.lr", (1e-4, 1e-2), is_range=True, log=True)),
        ("a.n=1..8", Parameter("a.n", (1, 8), is_range=True)),
        ("a=SGD,AdamW", Parameter("a", ("SGD", "AdamW"))),
        ("a=(1,2),(3,4)", Parameter("a", ((1, 2), (3, 4)))),
        ("a=None,../0.1", Parameter("a", (None, "../0.1"))),
        ("a=true,'1,2'", Parameter("a", (True, "1,2"))),  # as --set reads them
    ],
)
def test_ranges_and_choices(text: str, parameter: Parameter) -> None:
    assert parse_parameter(text) == parameter


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a", "must have the form"),
        ("a=1", "must have the form"),
        ("a=2..1", "needs two finite numbers"),
        ("a=log:0..1", "needs two finite numbers"),
    ],
)
def test_invalid_parameters_are_rejected(text: str, says: str) -> None:
    with pytest.raises(ArgumentError, match=says) as caught:
        parse_parameter(text)
    assert caught.value.found == text


def test_accepted_keys_need_no_plus(tmp_path: Path) -> None:
    cfg = Config(settings(tmp_path))
    changed = with_values(cfg, {"optim_wrapper.optimizer.momentum": 0.9, "train_dataloader.drop_last": True})
    assert changed["optim_wrapper"]["optimizer"]["momentum"] == 0.9
    assert changed["train_dataloader"]["drop_last"] is True
    with pytest.raises(OverrideError, match=r"has no key 'momentums'(.|\n)*did you mean '.*\.momentum'"):
        with_values(cfg, {"optim_wrapper.optimizer.momentums": 0.9})


@pytest.mark.parametrize("text", ["'x,y',z", "'1','2'", "'true',b", "'[x',b", """ "'it\\'s'",'a\\\\b' """, "' a',''"])
def test_quoted_choices_remain_strings(text: str, tmp_path: Path) -> None:
    cfg = Config(settings(tmp_path))
    choices = parse_parameter(f"experiment_name={text}").values
    assert all(isinstance(each, str) for each in choices)
    assert [with_values(cfg, {"experiment_name": each})["experiment_name"] for each in choices] == list(choices)


def test_strings_have_quotes_only_if_necessary() -> None:
    values = {"a.type": "ResNet", "a.path": "data/x=1", "a.name": "x,y", "a.depth": 18, "a.stages": [1, 2]}
    assert overrides_of(values) == ["a.type=ResNet", "a.path=data/x=1", "a.name='x,y'", "a.depth=18", "a.stages=[1, 2]"]
