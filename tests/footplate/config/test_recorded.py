import math
from pathlib import Path
from typing import Any

import pytest
import torch

from footplate.config import Config, LazyObject, as_plain, read_recorded
from footplate.errors import ConfigError
from footplate.optim import OptimWrapper

VALUES: list[dict[str, Any]] = [
    {"a": 1, "b": [1.5, "x\n\x1b", None, True], "c": {"d": {"e": (1, -2)}}},
    {"a": {1: "int key", ("t",): 2}},
    {"a-b": {"class": 1}, "lambda": float("inf"), "c": {"x y": -3}},
    {"a": {1, 2}, "c": set(), "d": b"bytes", "gpu_ids": range(1)},
    {"words": "{{ fileDirname }} {{$HOME:x}}", "nested": [{"a": [{"b": ()}]}]},
    {"keys": {(1, "a"): {"b": math.inf}, -1: {"c": b"d"}, None: {1, 2}}},
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
