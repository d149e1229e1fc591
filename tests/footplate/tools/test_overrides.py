import logging
from typing import Any

import pytest

from footplate.config import Config, ConfigDict
from footplate.errors import OverrideError
from footplate.tools.config_keys import accepted_keys
from footplate.tools.overrides import apply_overrides


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
        ("optimizer.betas=0.9,0.95", ("optimizer", "betas"), (0.9, 0.95)),
        ("pipeline[0].type=Other", ("pipeline", 0, "type"), "Other"),
        ("custom_keys.layers.0.lr_mult=2", ("custom_keys", "layers.0", "lr_mult"), 2),
        ("optimizer=dict(_delete_=True, type=Adam)", ("optimizer",), {"type": "Adam"}),
        ("+optimizer.eps=1e-8", ("optimizer", "eps"), 1e-8),
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
        ("optimzer.lr=1", "has no key 'optimzer'", "optimizer.lr"),
        ("optimizer.lrr=1", "'optimizer' has no key 'lrr'", "optimizer.lr"),
        ("pipeline.7.prob=1", "'7' is not a valid index", None),
        ("optimizer.lr=high", "'optimizer.lr' must be a number, like its current value ", None),
        ("lr", "must have the form KEY=VALUE", None),
        ("train_cfg.type.name=3", "'train_cfg.type' is of type str and has no keys", None),
    ],
)
def test_strict_overrides_refuse_unknown_keys_and_types(override: str, message: str, suggestion: str | None) -> None:
    cfg = config()
    with pytest.raises(OverrideError) as caught:
        apply_overrides(cfg, [override])
    assert message in caught.value.message
    assert caught.value.suggestion == suggestion
    assert len(str(caught.value).splitlines()) <= 5
    assert ("Write +" in str(caught.value)) is ("has no key " in message)  # `+` adds keys
    assert cfg.to_dict() == config().to_dict()


def test_lenient_overrides_merge_and_warn(caplog: pytest.LogCaptureFixture) -> None:
    cfg = config()
    with caplog.at_level(logging.WARNING, "footplate.config"):
        apply_overrides(cfg, ["optimizer.lrr=1", "train_cfg.type=5", "optimizer.lr=0.2"], strict=False)
    assert (cfg.optimizer.lrr, cfg.train_cfg.type, cfg.optimizer.lr) == (1, 5, 0.2)
    assert [record.getMessage() for record in caplog.records] == [
        "--cfg-options sets 'optimizer.lrr', but 'optimizer' has no key 'lrr'; did you mean 'optimizer.lr'?",
        "--cfg-options sets 'train_cfg.type', but 'train_cfg.type' must be a string, "
        "like its current value 'IterBasedTrainLoop'",
    ]


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(("present", "value"), [(["a", "b"], "a"), ("a", ["a", "b"]), ([8, 11], 8), (8, [8, 11])])
def test_value_may_replace_a_list_and_vice_versa(
    present: Any, value: Any, strict: bool, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = ConfigDict(data={"ann_file": present})
    apply_overrides(cfg, [f"data.ann_file={value}"], strict)
    assert cfg.data.ann_file == value
    assert not caplog.messages


@pytest.mark.parametrize("present", ["b", 3, ["b"]])
def test_the_advice_for_another_type_works(present: Any) -> None:
    cfg = Config({"model": {"arch": present}})
    with pytest.raises(OverrideError) as caught:
        apply_overrides(cfg, ["model.arch={'depth': 3}"])
    apply_overrides(cfg, [caught.value.notes[0].split('"')[1]])
    assert cfg["model"]["arch"] == {"depth": 3}


@pytest.mark.parametrize(("present", "value"), [(512.0, "dynamic"), ("dynamic", 512.0)])
def test_value_may_have_any_type_that_the_class_accepts(present: Any, value: Any) -> None:
    cfg = ConfigDict(optim_wrapper={"type": "AmpOptimWrapper", "loss_scale": present})
    apply_overrides(cfg, [f"optim_wrapper.loss_scale={value}"], accepted=accepted_keys)
    assert cfg.optim_wrapper.loss_scale == value
    with pytest.raises(OverrideError, match="must be"):
        apply_overrides(cfg, ["optim_wrapper.loss_scale=True"], accepted=accepted_keys)
    nested = ConfigDict(optim_wrapper={"type": "AmpOptimWrapper", "loss_scale": {"init_scale": 2.0}})
    with pytest.raises(OverrideError, match="must be a number"):
        apply_overrides(nested, ['optim_wrapper.loss_scale={"init_scale":"x"}'], accepted=accepted_keys)
