"""A value of a sample with the settings for collating it, as in first-generation pipelines."""

from typing import Any


class DataContainer:
    """Holds a value and the settings for collating it.

    Args:
        data: The value.
        stack: Whether to pad the tensors in a batch to the same size and stack them.
        padding_value: The padding value.
        cpu_only: Whether to collate the values as a list even if `stack` is set.
        pad_dims: None disables padding. With any other value, all dimensions except the first are padded.
    """

    def __init__(
        self, data: Any, stack: bool = False, padding_value: float = 0, cpu_only: bool = False, pad_dims: int | None = 2
    ) -> None:
        self._data = data
        self.stack, self.padding_value = stack, padding_value
        self.cpu_only, self.pad_dims = cpu_only, pad_dims

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._data!r})"

    def __len__(self) -> int:
        return len(self._data)

    @property
    def data(self) -> Any:
        """The value. After collation, this is a list whose only item is the batch."""
        return self._data

    def size(self, *args: Any) -> Any:
        """Returns the tensor's size. Takes the same arguments as `Tensor.size`."""
        return self._data.size(*args)

    def dim(self) -> Any:
        """Returns the tensor's number of dimensions."""
        return self._data.dim()
