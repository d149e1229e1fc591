import copy
import pickle

from footplate.config import KeyOrigin
from footplate.config.config_dict import Replaced, value_history
from footplate.errors import Origin


def test_key_origin_equals_a_plain_origin_and_can_be_copied() -> None:
    origin = KeyOrigin("a.py", 3, Replaced(1, Origin("b.py", 2)))
    assert origin == Origin("a.py", 3)
    for other in (copy.deepcopy(origin), pickle.loads(pickle.dumps(origin))):
        assert other == origin
        assert other.replaced == (1, Origin("b.py", 2))


def test_loop_that_sets_a_key_adds_one_value_to_the_history() -> None:
    origin = KeyOrigin("a.py", 1)
    for value in range(1000):
        origin = KeyOrigin("a.py", 2, Replaced(value, origin))
    assert [link.value for link in value_history(1000, origin)] == [0, 1000]
