"""What was measured of a run, and the machines that it is planned for."""

import dataclasses
import json
from typing import Any

from footplate import storage
from footplate.errors import ArgumentError
from footplate.messages import nearest


@dataclasses.dataclass(frozen=True)
class Parts:
    """One device's step in parts: seconds, bytes and counts.

    Attributes:
        batch: Samples of a step.
        forward: Seconds of a forward pass, the batch being there.
        backward: Seconds of a backward pass.
        update: Seconds of the optimizer's step.
        spread: How much steps spread, a share of their mean.
        loading: Seconds until one worker has read one sample.
        workers: Processes that read.
        weights: Bytes of weights and buffers.
        gradients: Bytes of the gradients.
        optimizer: Bytes of the optimizer's state.
        activations: Bytes that a forward pass of the batch keeps.
        largest_unit: Bytes of the largest part of the model that is gathered at once.
        checkpoint: Bytes of a checkpoint.
        write_speed: Bytes a second that one process writes.
        on_cores: Whether steps are computed by the cores that processes share.
        threads: Threads of a process.
        cores: Cores of the machine.
        crowding: How many times as long a step takes when all cores have one.
        switching: How much longer than its share of the cores explains it takes with twice as many.
        byte_seconds: Seconds in which one of two processes on these cores gets through one byte of an exchange.
        message_seconds: Seconds of a message between them.
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
        """Seconds of a step alone, without waiting for data."""
        return self.forward + self.backward + self.update

    def write(self, path: str) -> None:
        """Writes a JSON file."""
        content = json.dumps(dataclasses.asdict(self), indent=1) + "\n"
        storage.commit_bytes(path, content.encode())

    @classmethod
    def read(cls, path: str) -> "Parts":
        """Returns what `write` wrote, perhaps changed by hand since.

        Raises:
            ArgumentError: It is no such file, or a value makes no sense.
        """
        try:
            content = json.loads(storage.read_bytes(path))
        except (OSError, ValueError) as error:
            raise ArgumentError(f"'{path}' cannot be read as the parts of a plan: {error}", key="--parts") from error
        return cls.from_dict(content)

    @classmethod
    def from_dict(cls, content: Any) -> "Parts":
        """Returns parts by name.

        Raises:
            ArgumentError: A part is unknown, missing or no number.
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
    """The machines.

    Attributes:
        nodes: How many.
        per_node: Devices of each.
        bandwidth: Bytes a second that leave a node, and enter it.
        inner_bandwidth: Bytes a second between devices of a node.
        latency: Seconds of a message from one node to the next.
    """

    nodes: int = 1
    per_node: int = 1
    bandwidth: float = 12.5e9
    inner_bandwidth: float = 300e9
    latency: float = 10e-6

    @property
    def devices(self) -> int:
        """All of them."""
        return self.nodes * self.per_node
