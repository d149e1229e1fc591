import time
from typing import Any

import pytest

from footplate.data import BaseDataset
from footplate.tools.data_speed import DataSpeed, timing_transforms


class Slow:
    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        time.sleep(0.01)
        return results


class Records(BaseDataset):
    def load_data_list(self) -> list[dict[str, Any]]:
        return [{}] * 3


def test_each_transform_is_timed() -> None:
    dataset = Records(pipeline=[Slow(), dict, Slow()])
    transforms = [*dataset.pipeline.transforms]
    with timing_transforms(dataset) as times:
        assert [dataset[index] is not None for index in range(3)] == [True] * 3
    assert dataset.pipeline.transforms == transforms
    assert set(times) == {"Slow", "type"}
    assert 0.06 <= times["Slow"] < 1


@pytest.mark.parametrize(
    ("workers", "step", "line"),
    [
        (2, 0.5, "the model, which uses 32.0 samples per second"),
        (
            1,
            0.2,
            "the data: Resize takes 30 of 40 ms. The model uses 80.0 samples per second, for which 4 workers would do",
        ),
        (
            0,
            0.1,
            "the data: Resize takes 30 of 40 ms. The model uses 160.0 samples per second, for which 7 workers would "
            "do, but there are 4 processors",
        ),
    ],
)
def test_the_bottleneck_is_named(workers: int, step: float, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    speed = DataSpeed(0.04, {"Load": 0.0099, "Resize": 0.03, "Flip": 0.0001})
    assert speed.describe_bottleneck(workers, 16, step) == line
    where, rate = ("2 workers", 50) if workers == 2 else ("1 worker", 25) if workers else ("num_workers=0", 25)
    assert (
        speed.describe(workers) == f"40 ms per sample (Resize 30, Load 9.9), {rate}.0 samples per second with {where}"
    )
