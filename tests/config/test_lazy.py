import copy
import pickle
from decimal import Decimal

import pytest

from footplate.config import LazyObject
from footplate.errors import ConfigError, Origin


def test_a_name_is_imported_when_it_is_built() -> None:
    assert LazyObject("decimal.Decimal").build() is Decimal
    assert LazyObject("decimal").Decimal.from_float.build()(0.5) == Decimal("0.5")
    assert LazyObject("os.path").join.build()("a", "b") == "a/b"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("fp_nope.a.B", "no module named 'fp_nope'"),
        ("decimal.Nope", "module 'decimal' has no attribute 'Nope'"),
        (".base.a", "cannot import '.base.a'"),
    ],
)
def test_names_that_are_not_there(path: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        LazyObject(path, Origin("main.py", 4)).build()
    assert message in caught.value.message
    assert caught.value.origin == Origin("main.py", 4)


def test_it_is_compared_by_name_and_copies() -> None:
    lazy = LazyObject("a.b.C")
    for other in (copy.deepcopy(lazy), pickle.loads(pickle.dumps(lazy)), LazyObject("a").b.C):
        assert other == lazy
        assert hash(other) == hash(lazy)
    assert lazy != LazyObject("a.b.D")
    assert (str(lazy), repr(lazy), lazy.dotted_path) == ("C", "LazyObject('a.b.C')", "a.b.C")
    assert not hasattr(lazy, "__qualname__")


def test_it_is_not_called() -> None:
    with pytest.raises(ConfigError, match="'torch.nn.ReLU' is imported lazily and cannot be called"):
        LazyObject("torch.nn.ReLU")()
