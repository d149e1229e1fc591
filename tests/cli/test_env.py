import json
from collections.abc import Callable


def test_environment_has_a_line_per_fact(footplate: Callable[..., tuple[int, str, str]]) -> None:
    code, text, _ = footplate("env")
    assert code == 0
    facts = dict(line.split(maxsplit=1) for line in text.splitlines() if not line.startswith("torch threads"))
    data = json.loads(footplate("env", "--json")[1])
    assert facts["python"] == data["python"]
    assert facts["footplate"] == data["packages"]["footplate"]
