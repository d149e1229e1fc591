import logging
from pathlib import Path
from typing import Any

import pytest

from footplate.config import Config, KeyOrigin, apply_overrides
from footplate.error_context import origin_of
from footplate.errors import Origin, OverrideError


def config() -> Config:
    return Config(
        dict(
            train_cfg=dict(max_iters=100, type="IterBasedTrainLoop", dynamic=False),
            optimizer=dict(lr=0.1, betas=(0.9, 0.999), params=[1, 2], momentum=0),
            pipeline=[dict(type="Load"), dict(type="Flip", prob=0.5)],
            load_from=None,
            custom_keys={"layers.0": dict(lr_mult=1.0)},
        )
    )


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("train_cfg.max_iters=5", ("train_cfg", "max_iters"), 5),
        ("train_cfg.max_iters=1e3", ("train_cfg", "max_iters"), 1000),
        ("optimizer.momentum=0.9", ("optimizer", "momentum"), 0.9),
        ("optimizer.lr=1", ("optimizer", "lr"), 1),
        ("train_cfg.type=Other", ("train_cfg", "type"), "Other"),
        ("train_cfg.dynamic=on", ("train_cfg", "dynamic"), True),
        ("train_cfg.type=None", ("train_cfg", "type"), None),
        ("load_from=a.pth", ("load_from",), "a.pth"),
        ("optimizer.betas=0.9,0.95", ("optimizer", "betas"), (0.9, 0.95)),
        ("optimizer.params=(3, 4)", ("optimizer", "params"), [3, 4]),
        ("optimizer.betas.1=0.95", ("optimizer", "betas"), (0.9, 0.95)),
        ("pipeline.1.prob=0.1", ("pipeline", 1, "prob"), 0.1),
        ("pipeline[0].type=Other", ("pipeline", 0, "type"), "Other"),
        ("custom_keys.layers.0.lr_mult=2", ("custom_keys", "layers.0", "lr_mult"), 2),
        ("optimizer={lr: 3}", ("optimizer", "lr"), 3),
        ("optimizer=dict(_delete_=True, type=Adam)", ("optimizer",), {"type": "Adam"}),
        ("+optimizer.eps=1e-8", ("optimizer", "eps"), 1e-8),
        ("+new.key=[1]", ("new", "key"), [1]),
        ("+train_cfg.type=5", ("train_cfg", "type"), 5),
    ],
)
def test_strict_overrides_set_values(override: str, path: tuple[Any, ...], value: Any) -> None:
    cfg = config()
    apply_overrides(cfg, [override])
    found: Any = cfg
    for part in path:
        found = found[part]
    assert (found, type(found).__name__ in (type(value).__name__, "ConfigDict")) == (value, True)


@pytest.mark.parametrize(
    ("override", "message", "suggestion"),
    [
        ("optimzer.lr=1", "the config has no key 'optimzer'", "optimizer"),
        ("optimizer.lrr=1", "'optimizer' has no key 'lrr'", "optimizer.lr"),
        ("pipeline.1.prb=1", "'pipeline[1]' has no key 'prb'", "pipeline[1].prob"),
        ("pipeline.7.prob=1", "'pipeline' has 2 elements", None),
        ("optimizer.lr.x=1", "'optimizer.lr' is a float and has nothing below it", None),
        ("optimizer.lr=high", "'optimizer.lr' is a number, which 'high' is not", None),
        ("train_cfg.max_iters=[1]", "'train_cfg.max_iters' is a number", None),
        ("train_cfg.max_iters=True", "'train_cfg.max_iters' is a number, which True is not", None),
        ("train_cfg.dynamic=1", "'train_cfg.dynamic' is True or False, which 1 is not", None),
        ("train_cfg.type=5", "'train_cfg.type' is a string, which 5 is not", None),
        ("pipeline=3", "'pipeline' is a list", None),
        ("optimizer=3", "'optimizer' is a dict", None),
        ("optimizer={lr: abc}", "'optimizer.lr' is a number, which 'abc' is not", None),
        ("optimizer={lrr: 1}", "has no key 'lrr'", "lr"),
        ("lr=1", "the config has no key 'lr'", "optimizer.lr"),
        ("1.prob=1", "the config has no key '1'", "pipeline[1].prob"),
        ("lr", "an override is written key=value", None),
        ("=3", "an override is written key=value", None),
        ("+=3", "an override is written key=value", None),
        ("optimizer..lr=3", "empty or not closed", None),
        ("optimizer.lr=[1", "']' is missing", None),
    ],
)
def test_strict_overrides_refuse(override: str, message: str, suggestion: str | None) -> None:
    cfg = config()
    with pytest.raises(OverrideError) as caught:
        apply_overrides(cfg, [override])
    assert message in caught.value.message
    assert caught.value.suggestion == suggestion
    assert len(str(caught.value).splitlines()) <= 5
    assert cfg.to_dict() == config().to_dict()


def test_a_refused_value_names_where_the_key_was_written(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("a = 1\nb = dict(\n    c=2)\n")
    cfg = Config.fromfile(tmp_path / "main.py")
    for override, origin in [("b.c=x", Origin(str(tmp_path / "main.py"), 3)), ("d=1", Origin("--set", 0))]:
        with pytest.raises(OverrideError) as caught:
            apply_overrides(cfg, [override])
        assert caught.value.origin == origin


def test_a_refused_key_tells_how_to_add_it() -> None:
    with pytest.raises(OverrideError, match=r"write \+optimizer.zzz=... to add it on purpose"):
        apply_overrides(config(), ["optimizer.zzz=1"])


def test_of_several_paths_that_end_in_the_word_the_shortest_comes_first() -> None:
    cfg = Config({"a": {"b": {"c": 1}}, "d": {"c": 2}, "e": [{"c": 3}]})
    with pytest.raises(OverrideError) as caught:
        apply_overrides(cfg, ["c=1"])
    assert (caught.value.suggestion, caught.value.notes[0]) == ("d.c", "or: a.b.c, e[0].c")


def test_a_list_of_keys_says_how_many_it_leaves_out() -> None:
    with pytest.raises(OverrideError, match="its keys: k0, k1, .*, k11 and 3 more"):
        apply_overrides(Config({f"k{number}": 1 for number in range(15)}), ["other=1"])


def test_lenient_overrides_merge_and_warn(caplog: pytest.LogCaptureFixture) -> None:
    cfg = config()
    with caplog.at_level(logging.WARNING, "footplate.config"):
        apply_overrides(cfg, ["optimizer.lrr=1", "train_cfg.type=5", "optimizer.lr=0.2"], strict=False)
    assert (cfg.optimizer.lrr, cfg.train_cfg.type, cfg.optimizer.lr) == (1, 5, 0.2)
    assert [record.getMessage() for record in caplog.records] == [
        "--cfg-options optimizer.lrr: 'optimizer' has no key 'lrr'; did you mean 'optimizer.lr'?",
        "--cfg-options train_cfg.type: 'train_cfg.type' is a string, which 5 is not",
    ]


def test_an_override_is_remembered_with_what_it_replaced() -> None:
    cfg = config()
    apply_overrides(cfg, ["optimizer.lr=0.2"])
    origin = origin_of(cfg.optimizer, "lr")
    assert isinstance(origin, KeyOrigin)
    assert str(origin) == "--set"
    assert origin.replaced is not None
    assert origin.replaced.value == 0.1
