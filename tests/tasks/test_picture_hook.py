from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from footplate.errors import ArgumentError
from footplate.structures import BaseDataElement
from footplate.tasks.picture_hook import BaseVisualizationHook


class Drawing(BaseVisualizationHook):
    """Notes what the visualizer would be given; leaves the first prediction out."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(draw=True, interval=2, **settings)
        self.drawn: list[Any] = []

    @property
    def _visualizer(self) -> Any:
        return SimpleNamespace(add_datasample=lambda name, image, **more: self.drawn.append((name, image.shape, more)))

    def choose(self, outputs: Sequence[Any]) -> Iterable[tuple[int, Any]]:
        return list(enumerate(outputs))[1:]

    def options(self, runner: Any, mode: str, name: str) -> dict[str, Any]:
        return {"thickness": 3}


OUTPUTS = [BaseDataElement(metainfo={"img_path": f"folder/{name}.png"}) for name in "abcd"]
BATCH = {"inputs": torch.zeros(4, 3, 5, 6)}


def test_chosen_predictions_of_every_other_batch_are_drawn() -> None:
    hook = Drawing(max_samples=2)
    runner: Any = SimpleNamespace(iter=7, val_loop=SimpleNamespace(current=""))
    for batch in range(4):
        hook.after_val_iter(runner, batch, BATCH, OUTPUTS)
    assert [name for name, _, _ in hook.drawn] == ["val_b", "val_c"] * 2
    _, shape, more = hook.drawn[0]
    assert shape == (5, 6, 3)
    assert (more["step"], more["thickness"], more["data_sample"]) == (7, 3, OUTPUTS[1])


def test_pictures_of_several_sets_are_told_apart() -> None:
    hook = Drawing(max_samples=1)
    runner: Any = SimpleNamespace(iter=7, val_loop=SimpleNamespace(current="night"))
    hook.after_val_iter(runner, 1, BATCH, OUTPUTS)
    assert hook.drawn[0][0] == "val_night_b"


@pytest.mark.parametrize("settings", [{"interval": 0}, {"max_samples": 0}])
def test_numbers_without_sense(settings: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match="must be a whole number of at least 1"):
        BaseVisualizationHook(**settings)
