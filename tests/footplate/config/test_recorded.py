import enum
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from footplate.config import Config, LazyObject, as_plain, read_recorded
from footplate.errors import ConfigError
from footplate.optim import OptimWrapper
from footplate.registry import MODELS, Registry

VALUES: list[dict[str, Any]] = [
    {"a": 1, "b": [1.5, "x\n\x1b", None, True], "c": {"d": {"e": (1, -2)}}},
    {"a": {1: "int key", ("t",): 2}},
    {"a-b": {"class": 1}, "lambda": float("inf"), "c": {"x y": -3}},
    {"a": {1, 2}, "c": set(), "d": b"bytes", "gpu_ids": range(1)},
    {"words": "{{ fileDirname }} {{$HOME:x}}", "nested": [{"a": [{"b": ()}]}]},
    {"keys": {(1, "a"): {"b": math.inf}, -1: {"c": b"d"}, None: {1, 2, math.inf, (-math.inf, "a")}}},
]


@pytest.mark.parametrize("values", VALUES)
def test_dumped_config_is_read_as_data(tmp_path: Path, values: dict[str, Any]) -> None:
    Config(values).dump(tmp_path / "config.py")
    assert read_recorded(tmp_path / "config.py").to_dict() == values


def test_lazy_names_are_recorded_as_dotted_strings(tmp_path: Path) -> None:
    Config({"type": LazyObject("torch.nn.ReLU"), "nan": math.nan}).dump(tmp_path / "config.py")
    assert read_recorded(tmp_path / "config.py").type == "torch.nn.ReLU"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import os\n", "other than assignments"),
        ("a = open('mark', 'w')\n", "'a' is not a plain literal"),
        ("a = __import__('os').system('touch mark')\n", "'a' is not a plain literal"),
        ("a = f'{1}'\n", "'a' is not a plain literal"),
        ("a.b = 1\n", "other than assignments"),
        ("a = (", "not valid Python"),
        ("a = '\0'", "not valid Python"),
    ],
)
def test_python_code_is_refused_and_not_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config.py").write_text(text)
    with pytest.raises(ConfigError, match=reason):
        read_recorded("config.py")
    assert not Path("mark").exists()


def test_bases_of_a_recorded_config_are_not_loaded(tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text("open('mark', 'w')\n")
    (tmp_path / "config.json").write_text('{"_base_": "evil.py", "a": "{{ _base_.b }}"}')
    assert read_recorded(tmp_path / "config.json").to_dict() == {"_base_": "evil.py", "a": "{{ _base_.b }}"}


class Color(enum.Enum):
    RED = 1


class Probe:
    def __init__(self, value: Any) -> None:
        self.value = value


def local() -> Any:
    def inner() -> None:
        pass

    return inner


PROBES = Registry("probe")
PROBES.register_module()(Probe)
RECORDED = [
    *(None, True, -1, 2.5, math.inf, "x.y", b"\0", range(1, 7, 2), {1, math.inf}, frozenset({"a"}), np.float64(0.5)),
    *(len, dict, math.sqrt, Path, nn.Linear, nn.functional.relu, as_plain, Probe, {nn.Conv2d, nn.Linear}),
]
UNRECORDED = [
    *(lambda: 1, local(), partial(max, 1), [].append, Path("a").joinpath, list[int], torch.zeros(2), np.zeros(2)),
    *(torch.float16, Color.RED, math, object(), slice(1), nn.ReLU()),
]
leaves = st.sampled_from(RECORDED) | st.sampled_from(RECORDED + UNRECORDED)
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=2).map(tuple)
        | st.dictionaries(st.sampled_from(["a", "type_"]), inner)
    ),
    max_leaves=4,
)


def unrecorded_key(value: Any, key: str = "value") -> str | None:
    """Returns the key of the first leaf that a config cannot contain, without indices."""
    if isinstance(value, dict):
        return next(filter(None, (unrecorded_key(item, f"{key}.{name}") for name, item in value.items())), None)
    if isinstance(value, (list, tuple)):
        return next(filter(None, (unrecorded_key(item, key) for item in value)), None)
    return key if any(value is leaf for leaf in UNRECORDED) else None


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(trees)
def test_recorded_value_is_equal_or_the_error_gives_its_key(tmp_path: Path, value: Any) -> None:
    written = {"model": {"type": Probe, "value": value}}
    (tmp_path / "config.py").write_text(Config(written).pretty_text)
    read_recorded(tmp_path / "config.py")  # can always be read
    cfg = Config.fromfile(tmp_path / "config.py")
    key = unrecorded_key(value)
    if key is None:
        assert PROBES.build(cfg.model).value == value
    else:
        with pytest.raises(ConfigError, match="the recorded config lacks this value, which was ") as caught:
            PROBES.build(cfg.model)
        assert caught.value.key == key


def test_reference_in_a_recorded_config_is_not_imported_from_other_packages(tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text("model = dict(type='torch.nn.ReLU', inplace=__reference__('os.system'))\n")
    with pytest.raises(ConfigError, match="must not refer to 'os.system'") as caught:
        MODELS.build(read_recorded(tmp_path / "config.py").model)
    assert (caught.value.key, caught.value.origin) == ("inplace", (str(tmp_path / "config.py"), 1))


class Numbers(torch.utils.data.Dataset[float]):
    def __init__(self, augment: bool) -> None:
        self.augment, self.values = augment, [0.0]

    def __len__(self) -> int:
        return 1


def test_objects_are_recorded_as_stable_text() -> None:
    values = {"a": (1, 2.5, None), 3: object(), "kind": Path, "lazy": LazyObject("torch.nn")}
    assert as_plain(values) == {
        "a": [1, 2.5, None],
        3: "<builtins.object>",
        "kind": f"{Path.__module__}.Path",
        "lazy": "torch.nn",
    }


def test_long_lists_of_objects_are_counted_instead_of_described() -> None:
    batches = [(torch.zeros(2), {"label": 1})] * 21
    steps = list(range(2000))
    recorded = as_plain({"loader": batches, "few": batches[:1], "steps": steps, "pipeline": [{"type": Path}] * 21})
    assert recorded == {
        "loader": "<list of 21 items>",
        "few": [["tensor([0., 0.])", {"label": 1}]],
        "steps": steps,
        "pipeline": [{"type": f"{Path.__module__}.Path"}] * 21,
    }


def test_loaders_and_schedules_are_recorded_with_their_settings() -> None:
    numbers = Numbers(augment=True)
    loader = as_plain({"loader": torch.utils.data.DataLoader(numbers, batch_size=10, shuffle=True)})["loader"]
    assert loader["batch_size"] == 10
    assert loader["sampler"].endswith("RandomSampler>")
    assert loader["dataset"] == {"object": f"{__name__}.Numbers", "augment": True, "length": 1}
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(torch.optim.SGD([torch.zeros(1)], lr=0.1), T_max=6)
    assert as_plain(schedule)["T_max"] == 6


def test_optimizers_are_recorded_with_their_settings() -> None:
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    groups: list[dict[str, Any]] = [{"params": weights[:1], "lr": 0.3}, {"params": weights[1:]}]
    optimizer = torch.optim.Adam(groups, lr=0.1, weight_decay=0.5)
    torch.optim.lr_scheduler.LinearLR(optimizer)  # changes the learning rates
    recorded = as_plain({"optimizer": optimizer})["optimizer"]
    assert recorded["type"].endswith("Adam")
    assert recorded["weight_decay"] == 0.5
    assert recorded["param_groups"] == [{"lr": 0.3}, {"lr": 0.1}]
    sgd = torch.optim.SGD(weights, lr=0.2)
    assert [as_plain(each)["lr"] for each in (sgd, OptimWrapper(sgd))] == [0.2, 0.2]
