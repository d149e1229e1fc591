import copy
import pickle

from footplate.config import Config, KeyOrigin
from footplate.config.config_dict import Replaced, value_history
from footplate.error_context import origin_at
from footplate.errors import Origin
from tests.footplate.config.conftest import Write


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


def test_unpacked_key_has_the_line_of_its_dict(write: Write) -> None:
    path = write({"main.py": "common = dict(type='A',\n  sizes=dict(\n    a=1))\nfirst = dict(\n  b=1,\n  **common)\n"})
    cfg = Config.fromfile(str(path))
    lines = {key: getattr(origin_at(cfg, key), "line", None) for key in ("first.b", "first.type", "first.sizes.a")}
    assert lines == {"first.b": 5, "first.type": 4, "first.sizes.a": 3}
