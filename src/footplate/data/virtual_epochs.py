"""Epochs with a fixed number of batches, for streams without a length."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from footplate.data.loader_attributes import dataset_of
from footplate.data.position import DataPosition, _Anchor, track_position


class VirtualEpochs:
    """Divides the batches of all passes over a loader into epochs with a fixed number of batches.

    An epoch continues where the previous one ended. If the loader is exhausted, another pass begins.

    Args:
        loader: Any iterable of batches.
        steps_per_epoch: The number of batches in an epoch.
    """

    def __init__(self, loader: Any, steps_per_epoch: int) -> None:
        self.loader = loader
        self.steps_per_epoch = steps_per_epoch

    def __len__(self) -> int:
        return self.steps_per_epoch

    def __iter__(self) -> Iterator[Any]:
        return VirtualPosition(self).one_pass(0, 0, 0)

    @property
    def dataset(self) -> Any:
        """The dataset of the loader, or None."""
        return dataset_of(self.loader)


class VirtualPosition(DataPosition):
    """Tracks the position in `VirtualEpochs`: the epoch, its batch, and the position in the loader.

    Args:
        epochs: The loader with the epochs.
    """

    def __init__(self, epochs: VirtualEpochs) -> None:
        super().__init__(epochs)
        self._steps = epochs.steps_per_epoch
        self._stream_position = track_position(epochs.loader)
        self._stream: Iterator[Any] = iter(())
        self._next: int | None = None  # the index of the stream's next batch, or None if there is no stream

    def one_pass(self, pass_index: int, start: int, iteration: int) -> Iterator[Any]:
        """Yields the rest of an epoch. Continues the stream, unless it is not at the epoch's batch `start`."""
        self._anchor = _Anchor(iteration, pass_index, start)
        index = pass_index * self._steps + start
        if self._next != index:  # at the beginning, after a resume, or after an iteration has failed
            self._stream, self._next = self._stream_position.endless(index), index
        for batch in islice(self._stream, self._steps - start):
            self._next += 1
            yield batch
            del batch  # freed before the next one is requested (decision 025)

    def state_dict(self, pass_index: int, batch: int) -> dict[str, Any]:
        """Returns the state from which training continues with batch `batch` of an epoch."""
        place = self._stream_position.locate(pass_index * self._steps + batch)
        stream = self._stream_position.state_dict(*place)
        return {**super().state_dict(pass_index, batch), "stream": stream}

    def load_state_dict(self, state: Mapping[str, Any], iteration: int, *, by_epoch: bool = False) -> tuple[int, int]:
        """Restores a position; see `DataPosition.load_state_dict`."""
        place = super().load_state_dict(state, iteration, by_epoch=by_epoch)
        if "stream" in state:
            self._stream_position.load_state_dict(state["stream"], place[0])
        self._next = None
        return place
