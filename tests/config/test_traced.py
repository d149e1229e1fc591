import copy
import pickle

from footplate.config.traced import TracedDict
from footplate.error_context import origin_of
from footplate.errors import Origin


def test_it_is_a_dict_that_notes_who_sets_a_key() -> None:
    traced = TracedDict(a=1)
    traced["b"] = 2
    traced.update(c=3)
    traced |= {"d": 4}
    assert traced.setdefault("e", 5) == 5
    assert traced == {"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}
    assert origin_of(traced, "a") is None
    assert all((origin_of(traced, key) or Origin("", 0)).file == __file__ for key in "bcde")
    assert isinstance(traced, dict)
    assert not hasattr(traced, "a")


def test_origins_go_with_copies_and_updates() -> None:
    traced = TracedDict(a=[1])
    traced._origins["a"] = Origin("base.py", 3)
    for other in (traced.copy(), copy.copy(traced), copy.deepcopy(traced), pickle.loads(pickle.dumps(traced))):
        assert (other, other._origins["a"]) == (traced, Origin("base.py", 3))
    target = TracedDict()
    target.update(traced)
    assert origin_of(target, "a") == Origin("base.py", 3)
    assert (target | {"b": 1})["b"] == 1
