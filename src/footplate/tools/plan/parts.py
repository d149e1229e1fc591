"""The measurements of a run, and the cluster that the plan is for."""

import dataclasses
import json
from typing import Any

from footplate import storage
from footplate.errors import ArgumentError
from footplate.messages import nearest


@dataclasses.dataclass(frozen=True)
class Parts:
    """The measurements of one device's step: seconds, bytes and counts.

    Attributes:
        batch: Samples per step.
        forward: Seconds of a forward pass, without waiting for data.
        backward: Seconds of a backward pass.
        update: Seconds of the optimizer's step.
        spread: Standard deviation of step times, as a share of their mean.
        loading: Seconds that one worker takes to read one sample.
        workers: Data-loading workers.
        weights: Bytes of weights and buffers.
        gradients: Bytes of the gradients.
        optimizer: Bytes of the optimizer's state.
        activations: Bytes that the forward pass of a batch keeps for the backward pass.
        largest_unit: Bytes of the largest part of the model that is gathered at once.
        checkpoint: Bytes of a checkpoint.
        write_speed: Bytes per second that one process writes.
        on_cores: Whether steps run on CPU cores, which processes share.
        threads: Threads per process.
        cores: Cores of the machine.
        crowding: Slowdown factor of a step when all cores are busy.
        switching: Further slowdown factor with twice as many threads as cores, beyond the share of the cores.
        byte_seconds: Seconds per byte of an exchange between two processes on these cores.
        message_seconds: Seconds per message between two processes.
    """

    batch: int
    forward: float
    backward: float
    update: float
    spread: float
    loading: float
    workers: int
    weights: int
    gradients: int
    optimizer: int
    activations: int
    largest_unit: int
    checkpoint: int
    write_speed: float
    on_cores: bool = False
    threads: int = 1
    cores: int = 1
    crowding: float = 1.0
    switching: float = 1.0
    byte_seconds: float | None = None
    message_seconds: float | None = None

    @property
    def step(self) -> float:
        """The seconds of a step without waiting for data."""
        return self.forward + self.backward + self.update

    def write(self, path: str) -> None:
        """Writes the measurements to a JSON file."""
        content = json.dumps(dataclasses.asdict(self), indent=1) + "\n"
        storage.commit_bytes(path, content.encode())

    @classmethod
    def read(cls, path: str) -> "Parts":
        """Reads a file that `write` wrote and that may have been edited.

        Raises:
            ArgumentError: The file cannot be read, or a value is invalid.
        """
        try:
            content = json.loads(storage.read_bytes(path))
        except (OSError, ValueError) as error:
            raise ArgumentError(f"'{path}' cannot be read as the parts of a plan: {error}", key="--parts") from error
        return cls.from_dict(content)

    @classmethod
    def from_dict(cls, content: Any) -> "Parts":
        """Builds the measurements from a dict.

        Raises:
            ArgumentError: A key is unknown or missing, or a value is not a non-negative number.
        """
        fields = {field.name: field for field in dataclasses.fields(cls)}
        if not isinstance(content, dict):
            raise ArgumentError("the parts of a plan are a dict", key="--parts", found=content)
        for name, value in content.items():
            if name not in fields:
                raise ArgumentError(f"a plan has no part '{name}'", key=name, suggestion=nearest(name, fields))
            if value is not None and (not isinstance(value, (int, float)) or value < 0):
                raise ArgumentError(f"the part '{name}' is a number of at least 0", key=name, found=value)
        missing = [
            name for name, field in fields.items() if field.default is dataclasses.MISSING and name not in content
        ]
        if missing:
            raise ArgumentError(f"a plan needs the part '{missing[0]}'", key=missing[0])
        return cls(**content)


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The machines of a plan.

    Attributes:
        nodes: The number of nodes.
        per_node: Devices per node.
        bandwidth: Bytes per second between a node and the others, in each direction.
        inner_bandwidth: Bytes per second between devices of a node.
        latency: Seconds of a message from one node to another.
    """

    nodes: int = 1
    per_node: int = 1
    bandwidth: float = 12.5e9
    inner_bandwidth: float = 300e9
    latency: float = 10e-6

    @property
    def devices(self) -> int:
        """The number of devices on all nodes."""
        return self.nodes * self.per_node
