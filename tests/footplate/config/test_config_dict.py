import pytest

from footplate.config import ConfigDict
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
