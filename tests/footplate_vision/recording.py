"""A visualizer that records its calls, and batches to draw."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, TypeVar

import torch

from footplate.data.data_element import BaseDataElement
from footplate.visualization import Visualizer

RUNNER: Any = SimpleNamespace(iter=30, log_dir="/nowhere")
_Sample = TypeVar("_Sample", bound=BaseDataElement)


class Recorder(Visualizer):
    """Records name, image and further arguments of each call; hooks use the visualizer that was created last."""

    def __init__(self) -> None:
        super().__init__("recorder")
        self.drawn: list[tuple[str, Any, dict[str, Any]]] = []

    def add_datasample(self, name: str, image: Any, *args: Any, **kwargs: Any) -> None:
        self.drawn.append((name, image, kwargs))

    def add_image(self, name: str, image: Any, step: int = 0) -> None:
        self.drawn.append((name, image, {"step": step}))

    @property
    def names(self) -> list[str]:
        """The names of the calls, in order."""
        return [name for name, _, _ in self.drawn]


def batch(kind: Callable[..., _Sample], count: int = 2, channels: int = 3) -> tuple[dict[str, Any], list[_Sample]]:
    """Returns images of 4 x 5 pixels in one shade of gray each, and a sample of `kind` for each image."""
    inputs = [torch.full((channels, 4, 5), 10 * number, dtype=torch.uint8) for number in range(count)]
    return {"inputs": inputs}, [kind(metainfo={"img_path": f"made/{number:02d}.png"}) for number in range(count)]


def pixels_of(picture: Any, color: tuple[int, int, int]) -> int:
    """Counts the pixels of a color."""
    return int((picture == color).all(axis=2).sum())
