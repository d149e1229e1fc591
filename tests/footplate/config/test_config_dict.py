from pathlib import Path

import pytest

from footplate.config import ConfigDict, KeyOrigin, LazyObject
from footplate.error_context import origin_of
from footplate.errors import ConfigAttributeError, ConfigKeyError, Origin


def test_dict_methods() -> None:
    cfg = ConfigDict(a=dict(b=1, c=2))
    assert (cfg.get("x"), cfg.get("x", 3), cfg.pop("x"), cfg.pop("x", 4)) == (None, 3, None, 4)
    cfg.update(a=dict(b=5), d=1)
    cfg.update({"a": dict(e=6)})
    assert cfg == {"a": {"b": 5, "c": 2, "e": 6}, "d": 1}
    assert cfg.setdefault("s", dict(t=1)).t == 1
    assert cfg.setdefault("d", 9) == 1
    assert (cfg | dict(u=1)).u == 1
    assert "u" not in cfg
    cfg |= dict(u=2)
    assert cfg.u == 2
    assert repr(ConfigDict(a=dict(b=1))) == "{'a': {'b': 1}}"


@pytest.mark.parametrize("kind", ["attribute", "item"])
def test_missing_key_suggests_the_nearest_key(kind: str) -> None:
    cfg = ConfigDict(optimizer=dict(lr=1))
    cfg.optimizer._origins[None] = Origin("base.py", 3)
    error = ConfigAttributeError if kind == "attribute" else ConfigKeyError
    with pytest.raises(error, match="has no key 'lrr'") as caught:
        cfg.optimizer.lrr if kind == "attribute" else cfg.optimizer["lrr"]
    assert caught.value.suggestion == "lr"
    assert caught.value.origin == Origin("base.py", 3)


def test_missing_keys_can_be_probed() -> None:
    cfg = ConfigDict(a=1)
    assert not hasattr(cfg, "b")
    assert getattr(cfg, "b", 2) == 2
    with pytest.raises(AttributeError):
        del cfg.b


def test_key_set_later_has_the_origin_of_the_statement() -> None:
    cfg = ConfigDict(a=1)
    cfg._origins["a"] = Origin("base.py", 7)
    cfg.a = 2
    cfg.a = 3
    origin = origin_of(cfg, "a")
    assert isinstance(origin, KeyOrigin)
    assert Path(origin.file).name == __file__.rpartition("/")[2]
    assert origin.replaced is not None
    assert origin.replaced.value == 2
    assert isinstance(origin.replaced.origin, KeyOrigin)
    assert origin.replaced.origin.replaced == (1, Origin("base.py", 7))


def test_to_dict_is_plain_and_writes_lazy_names_as_strings() -> None:
    plain = ConfigDict(a=dict(type=LazyObject("torch.optim.SGD")), l=(dict(b=1),)).to_dict()
    assert plain == {"a": {"type": "torch.optim.SGD"}, "l": ({"b": 1},)}
    assert type(plain["a"]) is dict
    assert type(plain["l"][0]) is dict
