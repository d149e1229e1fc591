"""Predicts step time, efficiency, memory and checkpoint time from measurements and a cluster."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from footplate.tools.plan import formulas
from footplate.tools.plan.parts import Cluster, Parts

_GATHERS_AND_SCATTER = 3  # passes of sharded training: all-gather in forward and backward, reduce-scatter


class Prediction(NamedTuple):
    """The predicted cost of a step on a number of devices.

    Attributes:
        nodes: Nodes.
        devices: Devices on all nodes.
        batch: Samples per step on all devices.
        step: Seconds of a step.
        compute: Seconds of forward, backward and update on the slowest device.
        loading: Seconds of waiting for data.
        exchange: Seconds of waiting for gradients or weights of other devices.
        throughput: Samples per second.
        efficiency: Step time on one device over the step time on all devices.
        memory: Bytes on a device.
        checkpoint: Seconds to write a checkpoint.
    """

    nodes: int
    devices: int
    batch: int
    step: float
    compute: float
    loading: float
    exchange: float
    throughput: float
    efficiency: float
    memory: float
    checkpoint: float


def predict(parts: Parts, cluster: Cluster, *, sharded: bool = False) -> Prediction:
    """Returns the predicted cost of a step.

    Args:
        parts: The measurements of one device.
        cluster: The machines.
        sharded: Whether weights and optimizer state are sharded rather than replicated.
    """
    alone = parts.step + formulas.loading_seconds(parts.loading, parts.batch, parts.workers, parts.step)
    here = _on_shared_cores(parts, cluster.per_node) if parts.on_cores else parts
    compute = formulas.slowest_of(here.step, parts.spread, cluster.devices)
    loading = formulas.loading_seconds(here.loading, parts.batch, parts.workers, compute)
    exchange = _exchange(parts, here, cluster, sharded=sharded)
    step = compute + loading + exchange
    batch = parts.batch * cluster.devices
    return Prediction(
        nodes=cluster.nodes,
        devices=cluster.devices,
        batch=batch,
        step=step,
        compute=compute,
        loading=loading,
        exchange=exchange,
        throughput=batch / step,
        efficiency=formulas.efficiency(alone, step),
        memory=_memory(parts, cluster.devices, sharded=sharded),
        checkpoint=formulas.checkpoint_seconds(parts.checkpoint, parts.write_speed, cluster.nodes if sharded else 1),
    )


def predict_growth(parts: Parts, cluster: Cluster, *, sharded: bool = False) -> list[Prediction]:
    """Returns predictions for one device, for one node, and for doubling numbers of nodes up to the whole cluster."""
    sizes = [dataclasses.replace(cluster, nodes=1, per_node=1)]
    nodes = 1
    while nodes < cluster.nodes:
        sizes.append(dataclasses.replace(cluster, nodes=nodes))
        nodes *= 2
    sizes.append(cluster)
    unique = {(each.nodes, each.per_node): each for each in sizes}
    return [predict(parts, each, sharded=sharded) for each in unique.values()]


def as_table(predictions: Sequence[Prediction]) -> list[list[str]]:
    """Returns a header row and one row of text per prediction."""
    head = [
        "nodes",
        "devices",
        "batch",
        "step",
        "compute",
        "data",
        "exchange",
        "samples/s",
        "efficiency",
        "memory",
        "save",
    ]
    rows = [
        [
            str(each.nodes),
            str(each.devices),
            str(each.batch),
            *(_seconds(value) for value in (each.step, each.compute, each.loading, each.exchange)),
            f"{each.throughput:,.0f}" if each.throughput >= 100 else f"{each.throughput:.3g}",
            f"{100 * each.efficiency:.1f} %",
            _gigabytes(each.memory),
            _seconds(each.checkpoint),
        ]
        for each in predictions
    ]
    return [head, *rows]


def described(parts: Parts, cluster: Cluster) -> list[str]:
    """Returns the measurements and the cluster as lines of text."""
    times = ", ".join(
        f"{name} {_seconds(value)}"
        for name, value in (("forward", parts.forward), ("backward", parts.backward), ("update", parts.update))
    )
    data = f"{_seconds(parts.loading)} a sample and worker, {parts.workers} workers"
    sizes = ", ".join(
        f"{name} {_gigabytes(value)}"
        for name, value in (
            ("weights", parts.weights),
            ("gradients", parts.gradients),
            ("optimizer", parts.optimizer),
            ("activations", parts.activations),
        )
    )
    bits = f"{8e-9 * cluster.bandwidth:g} Gbit/s between nodes, {8e-9 * cluster.inner_bandwidth:g} within"
    links = f"{bits}, {1e6 * cluster.latency:g} us a message"
    return [
        f"{'step':<11} {times}, {parts.batch} samples, spread {100 * parts.spread:.1f} %",
        f"{'data':<11} {data}",
        f"{'bytes':<11} {sizes}",
        f"{'saving':<11} {_gigabytes(parts.checkpoint)} at {_gigabytes(parts.write_speed)} a second",
        f"{'machines':<11} {cluster.nodes} x {cluster.per_node} devices, {links}",
        *([f"{'cores':<11} {parts.cores}, which processes of {parts.threads} threads share"] if parts.on_cores else []),
    ]


def _on_shared_cores(parts: Parts, processes: int) -> Parts:
    def stretched(seconds: float) -> float:
        own = parts.threads, parts.cores, parts.crowding, parts.switching
        return formulas.shared_cores(seconds, processes, *own)

    return dataclasses.replace(
        parts,
        forward=stretched(parts.forward),
        backward=stretched(parts.backward),
        update=stretched(parts.update),
        loading=stretched(parts.loading),
    )


def _exchange(parts: Parts, here: Parts, cluster: Cluster, *, sharded: bool) -> float:
    if cluster.devices == 1:
        return 0.0
    bandwidth, latency = cluster.inner_bandwidth, cluster.latency
    if cluster.nodes > 1:
        bandwidth = min(cluster.bandwidth, cluster.inner_bandwidth)
    elif parts.byte_seconds:
        crowd = max(1.0, cluster.per_node * parts.threads / parts.cores) if parts.on_cores else 1.0
        bandwidth, latency = 1 / (parts.byte_seconds * crowd), (parts.message_seconds or 0.0) * crowd
    if sharded:
        seconds = formulas.exchange_seconds(parts.weights, cluster.devices, bandwidth, latency, _GATHERS_AND_SCATTER)
        return max(0.0, seconds - here.forward - here.backward)
    seconds = formulas.exchange_seconds(parts.gradients, cluster.devices, bandwidth, latency)
    # CPU cores cannot compute and exchange at the same time.
    hidden = 0.0 if parts.on_cores else here.backward
    return formulas.exposed_seconds(seconds, hidden, formulas.bucket_count(parts.gradients)) if hidden else seconds


def _memory(parts: Parts, devices: int, *, sharded: bool) -> float:
    if sharded:
        return formulas.sharded_bytes(
            parts.weights, parts.gradients, parts.optimizer, parts.activations, parts.largest_unit, devices
        )
    return formulas.replicated_bytes(parts.weights, parts.gradients, parts.optimizer, parts.activations)


def _seconds(value: float) -> str:
    return f"{value:.3g} s" if value >= 0.1 or value == 0 else f"{1000 * value:.3g} ms"


def _gigabytes(value: float) -> str:
    return f"{value / 1e9:.2f} GB" if value >= 1e8 else f"{value / 1e6:.1f} MB"
