import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from footplate.errors import ArgumentError
from footplate.tools.plan.parts import Cluster, Parts

GIVEN: dict[str, Any] = {
    "batch": 16,
    "forward": 0.1,
    "backward": 0.2,
    "update": 0.02,
    "spread": 0.0,
    "loading": 0.001,
    "workers": 2,
    "weights": 100_000_000,
    "gradients": 100_000_000,
    "optimizer": 200_000_000,
    "activations": 1_000_000_000,
    "largest_unit": 10_000_000,
    "checkpoint": 300_000_000,
    "write_speed": 1e9,
}


def test_parts_are_written_and_read(tmp_path: Path) -> None:
    parts = Parts.from_dict({**GIVEN, "byte_seconds": None})
    parts.write(str(tmp_path / "parts.json"))
    assert Parts.read(str(tmp_path / "parts.json")) == parts
    assert parts.step == pytest.approx(0.32)
    assert json.loads((tmp_path / "parts.json").read_text())["forward"] == 0.1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"forwrd": 1}, "a plan has no part 'forwrd'"),
        ({"forward": -1}, "the part 'forward' is a number of at least 0"),
        ({"forward": "0.1"}, "the part 'forward' is a number of at least 0"),
    ],
)
def test_mistakes_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Parts.from_dict({**GIVEN, **changes})


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="a plan needs the part 'batch'"):
        Parts.from_dict({})
    with pytest.raises(ArgumentError, match="the parts of a plan are a dict"):
        Parts.from_dict([])
    (tmp_path / "no.json").write_text("{")
    for name in ("no.json", "absent.json"):
        with pytest.raises(ArgumentError, match="cannot be read as the parts of a plan"):
            Parts.read(str(tmp_path / name))


def test_devices_are_those_of_all_nodes() -> None:
    assert Cluster(nodes=128, per_node=8).devices == 1024
    assert [field.name for field in dataclasses.fields(Cluster)][:2] == ["nodes", "per_node"]
