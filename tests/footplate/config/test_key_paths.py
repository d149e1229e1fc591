from typing import Any

import pytest

from footplate.config import Config
from footplate.errors import ConfigError

A = dict(b=1, l=[dict(x=1), dict(x=2)], t=(1, 2))


def config() -> Config:
    return Config(
        dict(
            a=A,
            s="q",
            n=None,
            keys={"p.q": dict(r=1), 3: "three"},
        )
    )


@pytest.mark.parametrize(
    ("options", "key", "value"),
    [
        ({"a.b": 2, "a.c.d": 3}, "a", {**A, "b": 2, "c": dict(d=3)}),
        ({"a.l.0.x": 5}, "a", {**A, "l": [dict(x=5), dict(x=2)]}),
        ({"a.l[1].y": 5}, "a", {**A, "l": [dict(x=1), dict(x=2, y=5)]}),
        ({"a.l": {"1": dict(y=9)}}, "a", {**A, "l": [dict(x=1), dict(x=2, y=9)]}),
        ({"a.l.0": dict(_delete_=True, w=1)}, "a", {**A, "l": [dict(w=1), dict(x=2)]}),
        ({"a.t.1": 5}, "a", {**A, "t": (1, 5)}),
        ({"keys.p.q.r": 2}, "keys", {"p.q": dict(r=2), 3: "three"}),
        ({"keys.'new.key'.r": 2}, "keys", {"p.q": dict(r=1), 3: "three", "new.key": dict(r=2)}),
        ({"keys.3": 2}, "keys", {"p.q": dict(r=1), 3: 2}),
        ({"new.0.x": 1}, "new", {"0": {"x": 1}}),
    ],
)
def test_values_are_put_at_their_path(options: dict[str, Any], key: str, value: Any) -> None:
    cfg = config()
    cfg.merge_from_dict(options)
    assert cfg.to_dict()[key] == value
    assert {name: item for name, item in cfg.items() if name != key} == {
        name: item for name, item in config().items() if name != key
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"a.l.2.x": 5}, "'2' is not a valid index for the list 'a.l' (2 elements, counted from 0)"),
        ({"a.l.x": 5}, "'x' is not a valid index for the list 'a.l' (2 elements, counted from 0)"),
        ({"s.x": 5}, "'s' is of type str and has no keys"),
        ({"s": dict(x=5)}, "a dict cannot be merged into a value of type str"),
        ({"a..b": 1}, "has an empty part, or an unclosed quote or bracket"),
        ({"'a'b": 1}, "parts without dots between them"),
    ],
)
def test_invalid_key_paths_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config().merge_from_dict(options)
    assert message in str(caught.value)
    assert isinstance(caught.value, KeyError) == ("index" in message)
